//! The README in Portuguese says what the README says: the same chapters, blocks, names and numbers.

use std::collections::BTreeSet;

use super::pages::{Block, Page, pages};

/// What of a chapter is the same in every language.
#[derive(Debug, PartialEq)]
struct Shape {
    /// How many `#` its heading has.
    level: usize,
    /// How many rows of tables, and how many items of lists.
    rows: usize,
    items: usize,
}

/// A README and its translation.
struct Both {
    original: Page,
    translation: Page,
}

impl Both {
    fn read() -> Self {
        let mut pages = pages();
        let mut take = |path: &str| {
            let index = pages.iter().position(|page| page.path.as_os_str() == path);
            pages.remove(index.unwrap_or_else(|| panic!("{path} is there")))
        };
        Self { original: take("README.md"), translation: take("README.pt-BR.md") }
    }

    /// Where what `facts` finds in a chapter is in one of the two alone.
    fn differences(&self, facts: fn(&Page) -> BTreeSet<String>) -> Vec<String> {
        let mut differences = Vec::new();
        for (original, translation) in self.original.chapters().iter().zip(&self.translation.chapters()) {
            let (expected, found) = (facts(original), facts(translation));
            let only_in = |page: &Page, mine: &BTreeSet<String>, other: &BTreeSet<String>| -> Vec<String> {
                let (file, heading) = (page.path.display(), page.heading());
                mine.difference(other).map(|fact| format!("only in {file}, “{heading}”: {fact}")).collect()
            };
            differences.extend(only_in(original, &expected, &found));
            differences.extend(only_in(translation, &found, &expected));
        }
        differences
    }
}

impl Page {
    /// A page for each heading, with what is below it until the next.
    fn chapters(&self) -> Vec<Self> {
        let (prose, _) = self.parts();
        let mut chapters = Vec::<Self>::new();
        for line in prose {
            if line.starts_with('#') {
                chapters.push(Self { path: self.path.clone(), text: String::new() });
            }
            let chapter = chapters.last_mut().unwrap_or_else(|| panic!("{}: no heading", self.path.display()));
            chapter.text.push_str(line);
            chapter.text.push('\n');
        }
        chapters
    }

    fn heading(&self) -> &str {
        self.text.lines().next().unwrap_or_default()
    }

    fn shape(&self) -> Shape {
        let count = |start: &str| self.text.lines().filter(|line| line.starts_with(start)).count();
        let level = self.heading().chars().take_while(|c| *c == '#').count();
        Shape { level, rows: count("|"), items: count("- ") }
    }
}

/// The numbers of a page, without what separates thousands or decimals, which is not the same in every language.
fn numbers(page: &Page) -> BTreeSet<String> {
    let is_apart = |c: char| !(c.is_ascii_digit() || c == '.' || c == ',');
    let words = page.text.split(is_apart).map(|word| word.replace(['.', ','], ""));
    words.filter(|word| !word.is_empty()).collect()
}

/// Where the links of a page lead, but for those from one language to the other.
fn links(page: &Page) -> BTreeSet<String> {
    let links = page.text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    links.filter(|link| !link.starts_with("README")).map(str::to_owned).collect()
}

/// The words of a drawing are translated; all else is for the machine, and the same.
fn for_the_machine(block: &Block) -> &str {
    if block.text.contains('▶') { "a drawing" } else { &block.text }
}

#[test]
fn the_translation_has_the_chapters_of_the_readme() {
    let Both { original, translation } = Both::read();
    let (expected, found) = (original.chapters(), translation.chapters());
    for (expected, found) in expected.iter().zip(&found) {
        assert_eq!(expected.shape(), found.shape(), "{} and {}", expected.heading(), found.heading());
    }
    let more = expected.get(found.len()).or(found.get(expected.len())).map(Page::heading);
    assert_eq!(more, None, "a chapter of one of the two alone");
}

#[test]
fn the_translation_has_the_blocks_of_the_readme() {
    let Both { original, translation } = Both::read();
    let (expected, found) = (original.parts().1, translation.parts().1);
    for (expected, found) in expected.iter().zip(&found) {
        let places = format!("{} and {}", expected.place, found.place);
        assert_eq!(expected.language, found.language, "{places}");
        assert_eq!(for_the_machine(expected), for_the_machine(found), "{places}");
    }
    assert_eq!(expected.len(), found.len(), "blocks");
}

#[test]
fn the_translation_names_what_the_readme_names() {
    assert_eq!(Both::read().differences(|page| page.code().into_iter().collect()), [""; 0]);
}

#[test]
fn the_translation_has_the_numbers_and_links_of_the_readme() {
    let both = Both::read();
    assert_eq!([both.differences(numbers), both.differences(links)].concat(), [""; 0]);
}

#[test]
fn the_two_readmes_lead_to_each_other() {
    let Both { original, translation } = Both::read();
    let top = |page: &Page| page.text.lines().take(5).collect::<String>();
    assert!(top(&original).contains("](README.pt-BR.md)"));
    assert!(top(&translation).contains("](README.md)"));
}
