//! A short deterministic run of the fuzz target's property: mutations of every example, always the same ones.

use std::fs;
use std::path::{Path, PathBuf};

#[path = "../fuzz/property.rs"]
mod property;

/// A small generator (xorshift): the same sequence in every run.
struct Chance(u64);

impl Chance {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % limit.max(1) as u64) as usize
    }
}

fn seeds(folder: &Path) -> Vec<Vec<u8>> {
    let mut paths: Vec<PathBuf> =
        fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path()).collect();
    paths.sort();
    let mut seeds = Vec::new();
    for path in paths {
        if path.is_dir() {
            seeds.extend(self::seeds(&path));
        } else if path.extension().is_some_and(|extension| extension == "yaml") {
            let bytes = fs::read(&path).expect("a file");
            if bytes.len() < 8_000 {
                seeds.push(bytes);
            }
        }
    }
    seeds
}

/// Pieces that YAML and drover give a meaning to.
const PIECES: [&str; 22] = [
    "\n---\n",
    "\n...\n",
    ": ",
    "- ",
    "[",
    "]",
    "{",
    "}",
    "&a ",
    "*a",
    "<<: *a\n",
    "!!str ",
    "|\n",
    ">-\n",
    "\t",
    "\r\n",
    "\u{feff}",
    "'",
    "\"",
    "#",
    "spec: null\n",
    "9999999999999999999999",
];

fn mutate(bytes: &mut Vec<u8>, other: &[u8], chance: &mut Chance) {
    for _ in 0..=chance.below(4) {
        let at = chance.below(bytes.len() + 1).min(bytes.len());
        match chance.below(5) {
            0 if at < bytes.len() => bytes[at] = chance.below(256) as u8,
            1 => drop(bytes.splice(at..at, PIECES[chance.below(PIECES.len())].bytes())),
            2 => bytes.truncate(at),
            3 => {
                let end = (at + chance.below(40)).min(bytes.len());
                bytes.drain(at..end);
            }
            _ => {
                let from = chance.below(other.len());
                let to = (from + chance.below(200)).min(other.len());
                drop(bytes.splice(at..at, other[from..to].iter().copied()));
            }
        }
    }
}

#[test]
fn no_bytes_break_the_reader() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut seeds = seeds(&root.join("state"));
    seeds.extend(self::seeds(&root.join("examples")));
    assert!(seeds.len() > 40, "{}", seeds.len());
    let mut chance = Chance(0x2026_1124);
    let (mut read, mut refused) = (0, 0);
    for _ in 0..6_000 {
        let mut bytes = seeds[chance.below(seeds.len())].clone();
        let other = seeds[chance.below(seeds.len())].clone();
        mutate(&mut bytes, &other, &mut chance);
        let (documents, wrong) = property::holds(&bytes);
        read += documents;
        refused += usize::from(wrong);
    }
    assert!(read > 1_000 && refused > 1_000, "the mutations reach both sides: {read} read, {refused} refused");
}
