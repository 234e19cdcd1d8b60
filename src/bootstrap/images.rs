//! Lists of images, and what each image is called in its mirror.

use std::collections::BTreeMap;

use crate::model::bootstrap::{Engine, ImageName, ImageSet};

/// The images of the list files of a cluster, by the name of the file.
pub type Lists = BTreeMap<String, Vec<Listed>>;

/// An image of a list file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// The image.
    pub image: ImageName,
    /// Its line, counted from 1.
    pub line: u32,
}

/// A line of a list file that names no image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadLine {
    /// The line, counted from 1.
    pub line: u32,
    /// What is wrong.
    pub message: String,
}

/// Reads a list file: one image a line, comments behind `#`.
pub fn read_list(text: &str) -> (Vec<Listed>, Vec<BadLine>) {
    let (mut images, mut bad) = (Vec::new(), Vec::new());
    for (line, text) in (1..).zip(text.lines()) {
        let text = text.split('#').next().unwrap_or_default().trim();
        match text.parse() {
            _ if text.is_empty() => {}
            Ok(image) => images.push(Listed { image, line }),
            Err(error) => bad.push(BadLine { line, message: error.to_string() }),
        }
    }
    (images, bad)
}

/// The images of a set, each once, with those of its files.
pub fn images_of<'l>(set: &'l ImageSet, lists: &'l Lists) -> Vec<&'l ImageName> {
    let listed = set.files.iter().filter_map(|file| lists.get(file.as_str())).flatten().map(|listed| &listed.image);
    let mut seen = std::collections::BTreeSet::new();
    set.images.iter().chain(listed).filter(|image| seen.insert(*image)).collect()
}

/// What an image is called in its mirror and on the machine, as the runtime knows them.
pub(super) fn names(set: &ImageSet, image: &ImageName, engine: Engine) -> [String; 2] {
    let names = [set.in_mirror(image), image.to_string()];
    match engine {
        Engine::Docker => names,
        Engine::Containerd => names.map(|name| crate::model::bootstrap::canonical(&name)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_have_comments_and_bad_lines_have_numbers() {
        let (images, bad) = read_list("# all\nrancher/pause:3.7 # small\n\n  busybox\r\nrm -rf /\n");
        let images: Vec<_> = images.iter().map(|listed| (listed.image.as_str(), listed.line)).collect();
        assert_eq!(images, [("rancher/pause:3.7", 2), ("busybox", 4)]);
        assert_eq!(bad.iter().map(|bad| bad.line).collect::<Vec<_>>(), [5]);
    }
}
