//! Holds the map of the house: which crate may use which, and which libraries only some may reach.
#![allow(clippy::unwrap_used, clippy::panic, reason = "in tests, also in what tests share")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use cargo_metadata::{DependencyKind, Metadata, MetadataCommand, Package};

/// Crate → the workspace crates that it may use (the table of `crates/README.md`).
const EDGES: &[(&str, &[&str])] = &[
    ("model", &[]),
    ("format", &["model"]),
    ("checkpoint", &["model"]),
    ("observer", &["model"]),
    ("initial-scan", &["model"]),
    ("temp-file", &["model", "format"]),
    ("shard", &["model", "checkpoint", "format", "temp-file"]),
    ("storage", &["model", "format"]),
    ("flusher", &["model", "format", "checkpoint", "temp-file"]),
    ("coordinator", &["model", "format", "checkpoint"]),
    ("restore", &["model", "format", "storage"]),
    (
        "logtide",
        &[
            "model",
            "format",
            "checkpoint",
            "observer",
            "initial-scan",
            "temp-file",
            "shard",
            "storage",
            "flusher",
            "coordinator",
        ],
    ),
    ("cli", &["model", "format", "storage", "coordinator", "restore", "logtide"]),
    ("mock-raftstore", &["model"]),
    ("sim", &["model", "format", "storage", "coordinator", "restore", "logtide", "mock-raftstore"]),
    ("examples", &["model", "format", "storage", "logtide", "coordinator", "restore", "mock-raftstore"]),
    ("benches", &["model", "format", "observer", "temp-file"]),
    ("fuzz", &["model", "format", "coordinator"]),
];

/// Library → the crates that may name it. What others reach, they reach through these.
const OWNERS: &[(&str, &[&str])] = &[
    ("rocksdb", &["restore", "mock-raftstore"]),
    ("raft", &["mock-raftstore", "observer"]),
    ("object_store", &["storage", "flusher", "restore", "logtide", "cli", "sim", "examples"]),
    ("prometheus", &["logtide", "examples", "sim"]),
    ("clap", &["cli", "examples"]),
    ("prost", &["format", "coordinator", "mock-raftstore", "storage"]),
];

/// Crates without IO, clock and randomness, and what their dependencies must not reach.
const PURE: &[&str] = &["model", "format", "checkpoint"];
const IMPURE_LIBRARIES: &[&str] = &["tokio", "rocksdb", "librocksdb-sys", "object_store", "prometheus", "rand"];
const IMPURE_CALLS: &[&str] =
    &["Instant::now", "SystemTime", "std::fs", "std::net", "thread::spawn", "thread::sleep", "RandomState::new"];

fn workspace() -> Metadata {
    MetadataCommand::new().manifest_path(concat!(env!("CARGO_MANIFEST_DIR"), "/../../Cargo.toml")).exec().unwrap()
}

fn short(name: &str) -> &str {
    name.strip_prefix("logtide-").unwrap_or(name)
}

fn members(metadata: &Metadata) -> BTreeMap<String, &Package> {
    metadata.workspace_packages().into_iter().map(|p| (short(&p.name).to_owned(), p)).collect()
}

fn normal_dependencies(package: &Package) -> BTreeSet<String> {
    package.dependencies.iter().filter(|d| d.kind == DependencyKind::Normal).map(|d| d.name.clone()).collect()
}

#[test]
fn edges_are_those_of_the_table() {
    let metadata = workspace();
    let members = members(&metadata);
    let table: BTreeMap<_, _> = EDGES.iter().copied().collect();
    for (name, package) in &members {
        let allowed = table.get(name.as_str()).unwrap_or_else(|| panic!("crate {name} is not in the table"));
        for dependency in normal_dependencies(package) {
            let dependency = short(&dependency);
            if members.contains_key(dependency) {
                assert!(allowed.contains(&dependency), "{name} may not use {dependency}");
            }
        }
    }
    for (name, _) in EDGES {
        assert!(members.contains_key(*name), "{name} is in the table and not in the workspace");
    }
}

#[test]
fn libraries_are_named_by_their_owners_only() {
    let metadata = workspace();
    for (name, package) in members(&metadata) {
        let dependencies = normal_dependencies(package);
        for (library, owners) in OWNERS {
            let allowed = owners.contains(&name.as_str()) || !dependencies.contains(*library);
            assert!(allowed, "{name} may not name {library}");
        }
    }
}

#[test]
fn pure_crates_reach_nothing_impure() {
    let metadata = workspace();
    let resolve = metadata.resolve.as_ref().unwrap();
    let nodes: BTreeMap<_, _> = resolve.nodes.iter().map(|n| (&n.id, n)).collect();
    let names: BTreeMap<_, _> = metadata.packages.iter().map(|p| (&p.id, p.name.to_string())).collect();
    for (name, package) in members(&metadata).into_iter().filter(|(n, _)| PURE.contains(&n.as_str())) {
        let mut seen = BTreeSet::new();
        let mut open = vec![&package.id];
        while let Some(id) = open.pop() {
            if !seen.insert(id) {
                continue;
            }
            assert!(!IMPURE_LIBRARIES.contains(&names[id].as_str()), "{name} reaches {}", names[id]);
            let normal = |d: &&cargo_metadata::NodeDep| d.dep_kinds.iter().any(|k| k.kind == DependencyKind::Normal);
            open.extend(nodes[id].deps.iter().filter(normal).map(|d| &d.pkg));
        }
        scan_sources(&package.manifest_path.parent().unwrap().join("src").into_std_path_buf());
    }
}

fn scan_sources(dir: &Path) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            scan_sources(&path);
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        let production = text.split("#[cfg(test)]").next().unwrap();
        for call in IMPURE_CALLS {
            assert!(!production.contains(call), "{} uses {call}", path.display());
        }
    }
}

#[test]
fn the_top_level_is_what_the_user_wishes() {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
    let allowed = [
        "Cargo.toml",
        "Cargo.lock",
        "Makefile",
        "LICENSE",
        "README.md",
        "rustfmt.toml",
        "crates",
        "benches",
        "examples",
        "fuzz",
        "docs",
        "target",
    ];
    for entry in fs::read_dir(root).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(name.starts_with('.') || allowed.contains(&name.as_str()), "{name} has no place at the top level");
    }
}
