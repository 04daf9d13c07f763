//! The files of the documentation, their blocks, and the commands in these.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::support::repository;

/// A file of the documentation.
pub(super) struct Page {
    /// From the repository's folder.
    pub(super) path: PathBuf,
    pub(super) text: String,
}

/// A fenced block of a page.
pub(super) struct Block {
    pub(super) place: String,
    pub(super) language: String,
    pub(super) text: String,
}

/// A command as it is written, and what is written below it as its output.
pub(super) struct Call {
    pub(super) place: String,
    pub(super) command: String,
    pub(super) output: Vec<String>,
}

pub(super) fn pages() -> Vec<Page> {
    let in_folder = |folder: &str| {
        let entries = std::fs::read_dir(repository(folder)).expect("it is there");
        entries.map(|entry| Path::new(folder).join(entry.expect("it can be read").file_name())).collect::<Vec<_>>()
    };
    let mut paths = [in_folder(""), in_folder("docs")].concat();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "md"));
    paths.sort();
    let page = |path: PathBuf| Page { text: read(&path), path };
    let pages: Vec<Page> = paths.into_iter().map(page).collect();
    assert!(pages.len() > 5, "the README, the changelog and the guides");
    pages
}

fn read(path: impl AsRef<Path>) -> String {
    let path = path.as_ref();
    std::fs::read_to_string(repository("").join(path)).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

impl Page {
    /// The lines outside of blocks, and the blocks.
    pub(super) fn parts(&self) -> (Vec<&str>, Vec<Block>) {
        let (mut prose, mut blocks, mut is_open) = (Vec::new(), Vec::<Block>::new(), false);
        for (index, line) in self.text.lines().enumerate() {
            match line.strip_prefix("```") {
                Some(language) if !is_open => {
                    let place = format!("{}:{}", self.path.display(), index + 1);
                    blocks.push(Block { place, language: language.to_owned(), text: String::new() });
                    is_open = true;
                }
                Some(_) => is_open = false,
                None if is_open => {
                    let block = blocks.last_mut().expect("it was opened");
                    block.text.push_str(line);
                    block.text.push('\n');
                }
                None => prose.push(line),
            }
        }
        assert!(!is_open, "{}: a block is not closed", self.path.display());
        (prose, blocks)
    }

    /// The names by which its headings are linked to, made as GitHub makes them.
    pub(super) fn anchors(&self) -> BTreeSet<String> {
        let (prose, _) = self.parts();
        let mut anchors = BTreeSet::new();
        for heading in prose.iter().filter(|line| line.starts_with('#')) {
            let kept = |c: char| match c {
                ' ' => Some('-'),
                _ => (c.is_alphanumeric() || c == '-' || c == '_').then_some(c),
            };
            let anchor: String =
                heading.trim_start_matches('#').trim().to_lowercase().chars().filter_map(kept).collect();
            // The same heading twice would have a number behind it, which nobody sees.
            assert!(anchors.insert(anchor), "{}: {heading} is there twice", self.path.display());
        }
        anchors
    }

    /// What is between backticks in the text.
    pub(super) fn code(&self) -> Vec<String> {
        let (prose, _) = self.parts();
        prose.join("\n").split('`').skip(1).step_by(2).map(|code| code.replace('\n', " ")).collect()
    }

    pub(super) fn blocks(&self, language: &str) -> Vec<Block> {
        let (_, blocks) = self.parts();
        blocks.into_iter().filter(|block| block.language == language).collect()
    }

    /// The commands of its consoles.
    pub(super) fn calls(&self) -> Vec<Call> {
        self.blocks("console").iter().flat_map(Block::calls).collect()
    }
}

impl Block {
    pub(super) fn calls(&self) -> Vec<Call> {
        let mut calls = Vec::<Call>::new();
        for line in self.text.lines() {
            if let Some(command) = line.strip_prefix("$ ").or(line.strip_prefix("# ")) {
                calls.push(Call { place: self.place.clone(), command: command.to_owned(), output: Vec::new() });
                continue;
            }
            let call = calls.last_mut().unwrap_or_else(|| panic!("{}: no prompt before {line}", self.place));
            if call.goes_on() {
                call.command = format!("{}\n{line}", call.command);
            } else {
                call.output.push(line.to_owned());
            }
        }
        calls
    }
}

impl Call {
    /// Whether a quotation, or a document in the command, has not ended yet.
    fn goes_on(&self) -> bool {
        let document = self.command.contains("<<'END'") && !self.command.ends_with("\nEND");
        document || self.command.matches('\'').count() % 2 == 1
    }

    /// The configuration that is written by it.
    pub(super) fn configuration(&self) -> Option<&str> {
        self.command.split_once("<<'END'\n")?.1.strip_suffix("END")
    }

    /// The program that is called first.
    pub(super) fn program(&self) -> &str {
        let word = self.command.split_whitespace().next().expect("a word");
        let word = word.split_once("=$(").map_or(word, |(_, called)| called);
        if word.ends_with("/plugchat-receiver") { "plugchat-receiver" } else { word }
    }

    /// Whether it sets a variable for those after it.
    pub(super) fn is_assignment(&self) -> bool {
        self.command.split_whitespace().next().is_some_and(|word| word.contains("=$("))
    }

    /// Whether it goes on until somebody ends it.
    pub(super) fn follows(&self) -> bool {
        self.command.starts_with("curl -N ") || self.command.contains("plugchat-receiver tail")
    }
}
