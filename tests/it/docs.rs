//! What the documentation says can be done: its links lead somewhere, its configurations are read, its commands run.

mod console;
mod pages;
mod translation;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use plugchat_receiver::config;
use serde_json::Value;
use yaml_rust2::YamlLoader;

use crate::support::{output_of, program, repository};
use console::Console;
use pages::{Page, pages};

/// Programs in the documentation that are not run here: they need root, an engine or a broker, or are run by other tests.
const NOT_RUN: [&str; 14] = [
    "cp",
    "docker",
    "export",
    "install",
    "journalctl",
    "make",
    "mkdir",
    "mv",
    "nats",
    "rabbitmqadmin",
    "redis-cli",
    "scripts/image-in-chroot",
    "scripts/image-steps",
    "systemctl",
];

/// Programs that are run here.
const RUN: [&str; 3] = ["curl", "date", "plugchat-receiver"];

#[test]
fn every_link_leads_somewhere() {
    let pages = pages();
    let mut broken = Vec::new();
    for page in &pages {
        let (prose, _) = page.parts();
        let prose = prose.join("\n");
        for link in prose.split("](").skip(1).map(|rest| rest.split_once(')').expect("it is closed").0) {
            if link.starts_with("https://") {
                continue;
            }
            let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
            let folder = page.path.parent().expect("it is a file");
            let path = if file.is_empty() { page.path.clone() } else { folder.join(file) };
            let target = repository("").join(path).canonicalize().ok();
            let linked = |other: &&Page| target == repository("").join(&other.path).canonicalize().ok();
            let has_anchor = || pages.iter().find(linked).is_some_and(|other| other.anchors().contains(anchor));
            if target.is_none() || !anchor.is_empty() && !has_anchor() {
                broken.push(format!("{}: {link}", page.path.display()));
            }
        }
    }
    assert_eq!(broken, [""; 0]);
}

/// The files in a folder of the repository, and in its folders.
fn files(folder: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(repository(folder)).expect("it is there");
    let below = |path: PathBuf| {
        if repository("").join(&path).is_dir() { files(path.to_str().expect("UTF-8")) } else { vec![path] }
    };
    entries.flat_map(|entry| below(Path::new(folder).join(entry.expect("it can be read").file_name()))).collect()
}

#[test]
fn every_file_that_is_named_is_there() {
    let mut paths: Vec<PathBuf> = pages().into_iter().map(|page| page.path).collect();
    paths.extend(["src", "deploy", "scripts", "tests/it"].into_iter().flat_map(files));
    paths.extend(["config.example.toml", "Makefile", "Dockerfile"].map(PathBuf::from));
    let mut missing = Vec::new();
    for path in paths {
        // What is no text names nothing.
        let Ok(text) = std::fs::read_to_string(repository("").join(&path)) else { continue };
        let is_apart = |c: char| !(c.is_alphanumeric() || "/._-".contains(c));
        for word in text.split(is_apart) {
            let word = word.trim_end_matches(['.', '/']);
            let is_named = ["deploy/", "scripts/", "docs/"].iter().any(|folder| word.starts_with(folder));
            if is_named && !repository(word).exists() {
                missing.push(format!("{}: {word}", path.display()));
            }
        }
    }
    assert_eq!(missing, [""; 0]);
}

#[test]
fn nothing_is_said_in_two_files() {
    let pages = pages();
    let long = |page: &Page| -> BTreeSet<String> {
        page.text.lines().filter(|line| line.len() > 70).map(str::to_owned).collect()
    };
    // A translation has the same commands and examples.
    let is_original = |page: &&Page| !page.path.to_string_lossy().contains(".pt-BR.");
    let pages: Vec<&Page> = pages.iter().filter(is_original).collect();
    for (index, page) in pages.iter().enumerate() {
        for other in &pages[index + 1..] {
            let twice: Vec<_> = long(page).intersection(&long(other)).cloned().collect();
            assert_eq!(twice, [""; 0], "{} and {}", page.path.display(), other.path.display());
        }
    }
}

#[test]
fn every_configuration_is_read() {
    let mut count = 0;
    let mut read = |place: &str, text: &str| {
        count += 1;
        config::parse(Some((Path::new(place), text)), &[]).unwrap_or_else(|error| panic!("{place}: {error}\n{text}"));
    };
    for page in pages() {
        // What begins without a table belongs to the block before.
        let mut table = String::new();
        for block in page.blocks("toml") {
            if block.text.starts_with('[') {
                table.clear();
            }
            table.push_str(&block.text);
            read(&block.place, &table);
        }
        for call in page.calls() {
            if let Some(text) = call.configuration() {
                read(&call.place, text);
            }
        }
    }
    assert!(count > 4, "{count}");
}

#[test]
fn every_other_block_is_what_it_says() {
    for block in pages().iter().flat_map(|page| page.parts().1) {
        let read = match block.language.as_str() {
            "json" => serde_json::from_str::<Value>(&block.text).map(drop).map_err(|error| error.to_string()),
            "yaml" => YamlLoader::load_from_str(&block.text).map(drop).map_err(|error| error.to_string()),
            // Of no language: what goes into the configuration of other programs, and a drawing.
            "toml" | "console" | "" => Ok(()),
            other => Err(format!("nobody tests {other}")),
        };
        assert_eq!(read, Ok(()), "{}", block.place);
    }
}

/// The alternatives of `dead list|retry`: each a call of its own.
fn alternatives(call: &str) -> Vec<String> {
    match call.split(' ').find(|word| word.contains('|')) {
        Some(choice) => choice.split('|').flat_map(|one| alternatives(&call.replacen(choice, one, 1))).collect(),
        None => vec![call.to_owned()],
    }
}

#[test]
fn every_command_in_the_text_is_one_that_the_program_knows() {
    let help = output_of(program().arg("--help")).1;
    let listed = help.split_once("Commands:\n").expect("they are listed").1;
    // A longer description goes on below, further in.
    let names = listed.lines().take_while(|line| !line.is_empty()).filter_map(|line| line.strip_prefix("  "));
    let commands: BTreeSet<&str> =
        names.filter_map(|line| line.split(' ').next()).filter(|name| !name.is_empty()).collect();
    let mut asked = BTreeSet::new();
    for page in pages() {
        let in_containers =
            page.calls().into_iter().map(|call| call.command).filter(|call| call.starts_with("docker exec "));
        // In a table, `|` is escaped.
        for code in page.code().into_iter().chain(in_containers).map(|code| code.replace("\\|", "|")) {
            let in_container = code.split_once(" /plugchat-receiver ").map(|(_, call)| call);
            let call = code.strip_prefix("plugchat-receiver ").or(in_container).unwrap_or(&code);
            let is_command = call.split(' ').next().is_some_and(|word| commands.contains(word));
            if is_command || call != code && !call.starts_with('[') {
                asked.extend(alternatives(call));
            }
        }
    }
    assert!(asked.len() > 20, "{asked:?}");
    for call in asked {
        // What placeholders stand for; `…` is what is left out.
        let words = call.split(' ').map(|word| match word {
            "N" | "R" => "1",
            "T" => "1h",
            "S" | "NAME" => "crm",
            "SHELL" => "bash",
            word => word.trim_matches(['\'', '"']),
        });
        let (code, _, error) = output_of(program().args(words.filter(|word| *word != "…")).arg("--help"));
        assert!(code == 0 || error.contains("a value is required"), "{call}: {error}");
    }
}

#[test]
fn every_program_that_is_called_is_known() {
    for call in pages().iter().flat_map(Page::calls) {
        let program = call.program();
        assert!(RUN.contains(&program) || NOT_RUN.contains(&program), "{}: {program} is not tested", call.place);
    }
}

/// Runs the commands of a page, in order; how many there were.
fn run_all(page: &Page, console: &Console) -> usize {
    let mut count = 0;
    for block in page.blocks("console") {
        let mut variables = String::new();
        for call in block.calls().iter().filter(|call| RUN.contains(&call.program())) {
            console.run(&variables, call);
            if call.is_assignment() {
                variables.push_str(&call.command);
                variables.push('\n');
            }
            count += 1;
        }
    }
    count
}

#[test]
fn the_commands_of_the_readme_run_on_a_new_receiver() {
    for page in pages().iter().filter(|page| page.path.to_string_lossy().starts_with("README")) {
        assert!(run_all(page, &Console::start()) > 4, "{}", page.path.display());
    }
}

#[test]
fn the_commands_of_the_guides_run() {
    let mut count = 0;
    for page in pages().iter().filter(|page| page.path.starts_with("docs")) {
        let console = Console::start();
        console.fill();
        count += run_all(page, &console);
    }
    assert!(count > 15, "{count}");
}
