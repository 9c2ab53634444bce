//! Progress of a restore, on a terminal.

use std::io::IsTerminal;

use indicatif::{ProgressBar, ProgressStyle};
use logtide_restore::{Progress, Stage, StageProgress};
use std::sync::Mutex;

/// One bar after the other, for each stage; hidden where standard error is no terminal.
pub(crate) struct Bars {
    current: Mutex<Option<(Stage, ProgressBar)>>,
    shown: bool,
}

impl Bars {
    pub(crate) fn new(quiet: bool) -> Self {
        Bars { current: Mutex::new(None), shown: !quiet && std::io::stderr().is_terminal() }
    }

    /// Takes the bar away.
    pub(crate) fn finish(&self) {
        if let Ok(mut current) = self.current.lock()
            && let Some((_, bar)) = current.take()
        {
            bar.finish_and_clear();
        }
    }
}

impl Progress for Bars {
    fn report(&self, progress: &StageProgress) {
        let Ok(mut current) = self.current.lock() else { return };
        if !self.shown {
            return;
        }
        if current.as_ref().is_none_or(|(stage, _)| *stage != progress.stage) {
            if let Some((_, old)) = current.take() {
                old.finish();
            }
            *current = Some((progress.stage, bar(progress.stage)));
        }
        if let Some((_, bar)) = current.as_ref() {
            bar.set_length(progress.bytes_total.max(progress.bytes_done));
            bar.set_position(progress.bytes_done);
        }
    }
}

fn bar(stage: Stage) -> ProgressBar {
    let bar = ProgressBar::new(0);
    let template = "{prefix:>7} {bar:40.cyan/blue} {bytes}/{total_bytes} {bytes_per_sec} eta {eta}";
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar.set_prefix(match stage {
        Stage::Plan => "plan",
        Stage::Fetch => "fetch",
        Stage::Merge => "merge",
        Stage::Ingest => "ingest",
    });
    bar
}
