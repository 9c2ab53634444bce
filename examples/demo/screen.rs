//! What a person sees while the demo runs: progress bars on a terminal, a line now and then elsewhere.

use std::io::IsTerminal;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use indicatif::{HumanBytes, MultiProgress, ProgressBar, ProgressStyle};

/// How often a line is printed where there is no terminal.
const LINE_INTERVAL: Duration = Duration::from_secs(5);

/// The state of cluster and backup, in numbers.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Vitals {
    /// Regions of the cluster.
    pub(crate) regions: usize,
    /// Bytes per second that clients write.
    pub(crate) write_rate: f64,
    /// Bytes per second that reach the storage.
    pub(crate) backup_rate: f64,
    /// How far the checkpoint is behind.
    pub(crate) lag: Option<Duration>,
    /// Objects in the storage.
    pub(crate) objects: u64,
    /// Bytes in the storage.
    pub(crate) bytes: u64,
    /// Accounted memory of logtide on all stores, in bytes.
    pub(crate) memory: u64,
    /// Bank transfers done.
    pub(crate) transfers: u64,
}

impl Vitals {
    fn line(&self) -> String {
        let lag = self.lag.map_or("-".to_owned(), |lag| format!("{:.1}s", lag.as_secs_f64()));
        format!(
            "regions {} | transfers {} | writes {}/s | backup {}/s | lag {lag} | storage {} objects, {} | memory {}",
            self.regions,
            self.transfers,
            HumanBytes(self.write_rate as u64),
            HumanBytes(self.backup_rate as u64),
            self.objects,
            HumanBytes(self.bytes),
            HumanBytes(self.memory),
        )
    }
}

/// The screen.
pub(crate) struct Screen {
    bars: Option<MultiProgress>,
    vitals: ProgressBar,
    last_line: Mutex<Instant>,
    begun: Instant,
}

impl Screen {
    /// Bars on a terminal, lines elsewhere.
    pub(crate) fn new() -> Self {
        let bars = std::io::stderr().is_terminal().then(MultiProgress::new);
        let vitals = ProgressBar::new_spinner();
        if let Some(bars) = &bars {
            bars.add(vitals.clone());
            vitals.enable_steady_tick(Duration::from_millis(200));
        }
        Screen { bars, vitals, last_line: Mutex::new(Instant::now()), begun: Instant::now() }
    }

    /// Begins a stage that is counted in bytes (or keys): `total` of them.
    pub(crate) fn stage(&self, name: &'static str, total: u64) -> ProgressBar {
        self.say(name);
        let Some(bars) = &self.bars else { return ProgressBar::hidden() };
        let bar = bars.insert_before(&self.vitals, ProgressBar::new(total));
        let template = "  {bar:40.cyan/blue} {bytes}/{total_bytes} {bytes_per_sec} eta {eta}";
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        bar
    }

    /// Something happened.
    pub(crate) fn say(&self, what: &str) {
        let line = format!("[{:6.1}s] {what}", self.begun.elapsed().as_secs_f64());
        match &self.bars {
            Some(bars) => drop(bars.println(line)),
            None => print(&line),
        }
    }

    /// How things are.
    pub(crate) fn show(&self, vitals: Vitals) {
        if self.bars.is_some() {
            self.vitals.set_message(vitals.line());
            return;
        }
        let Ok(mut last) = self.last_line.lock() else { return };
        if last.elapsed() >= LINE_INTERVAL {
            *last = Instant::now();
            print(&format!("[{:6.1}s]   {}", self.begun.elapsed().as_secs_f64(), vitals.line()));
        }
    }

    /// No more vitals.
    pub(crate) fn calm(&self) {
        self.vitals.finish_and_clear();
    }

    /// Seconds since the screen was made.
    pub(crate) fn elapsed(&self) -> Duration {
        self.begun.elapsed()
    }
}

#[allow(clippy::print_stdout)]
fn print(line: &str) {
    println!("{line}");
}
