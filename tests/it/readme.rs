//! The README's tour, run as it stands: each `$ command` of a console block must print what the README says it prints.

use std::fs;
use std::path::Path;
use std::process::Command;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The commands of all console blocks, in order, with the output that the README shows.
fn tour(readme: &str) -> Vec<(String, String)> {
    let mut commands: Vec<(String, String)> = Vec::new();
    for block in readme.split("```console\n").skip(1) {
        for line in block.split("```").next().unwrap_or_default().lines() {
            match line.strip_prefix("$ ") {
                Some(command) => commands.push((command.to_owned(), String::new())),
                None => {
                    let output = &mut commands.last_mut().expect("a block begins with a command").1;
                    output.push_str(line);
                    output.push('\n');
                }
            }
        }
    }
    commands
}

/// Commit ids differ from run to run.
fn plain(text: &str) -> String {
    let is_id = |word: &str| word.len() == 10 && word.chars().all(|c| c.is_ascii_hexdigit());
    let words = text.split_inclusive(|c: char| !c.is_ascii_alphanumeric());
    words
        .map(|word| {
            if is_id(word.trim_end_matches(|c: char| !c.is_ascii_alphanumeric())) {
                "COMMIT ".to_owned()
            } else {
                word.to_owned()
            }
        })
        .collect()
}

fn bash(folder: &Path, command: &str) -> String {
    let binary = Path::new(env!("CARGO_BIN_EXE_drover")).parent().expect("a folder");
    let path = format!("{}:{}", binary.display(), std::env::var("PATH").expect("PATH"));
    let mut run = Command::new("bash");
    run.args(["-c", &format!("{{ {command}\n}} 2>&1")]).current_dir(folder).env_clear();
    run.env("PATH", path).env("HOME", folder).env("GIT_CONFIG_NOSYSTEM", "1");
    for who in ["AUTHOR", "COMMITTER"] {
        run.env(format!("GIT_{who}_NAME"), "Li Wei").env(format!("GIT_{who}_EMAIL"), "li.wei@example.org");
        run.env(format!("GIT_{who}_DATE"), "2026-11-20T09:00:00Z");
    }
    String::from_utf8_lossy(&run.output().expect("bash runs").stdout).into_owned()
}

#[test]
fn the_tour_prints_what_the_readme_says() {
    let folder = tempfile::tempdir().expect("a folder");
    for part in ["state", "examples", "schemas"] {
        bash(folder.path(), &format!("cp -r {} .", root().join(part).display()));
    }
    bash(folder.path(), "git init --quiet && git add --all && git commit --quiet --message 'fleet: two clusters'");
    let readme = fs::read_to_string(root().join("README.md")).expect("the README");
    let tour = tour(&readme);
    assert!(tour.len() >= 7, "{tour:#?}");
    for (command, shown) in tour {
        let printed = bash(folder.path(), &command);
        assert_eq!(plain(&printed), plain(&shown), "`{command}` prints something else than the README says");
    }
}

#[test]
fn the_two_commands_are_the_ones_that_ci_runs() {
    let readme = fs::read_to_string(root().join("README.md")).expect("the README");
    let script = fs::read_to_string(root().join("tests/run.sh")).expect("the test script");
    let ci = fs::read_to_string(root().join(".ci/run")).expect("the CI script");
    assert!(readme.contains("```sh\nbash tests/run.sh\n```") && ci.contains("bash tests/run.sh"));
    assert!(readme.contains("```sh\ncargo run --release -- plan\n```") && script.contains("--release --quiet -- plan"));
}
