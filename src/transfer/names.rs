//! The names that a destination takes for folders, and the spelling of a name that it does not take as it is. Pure: the
//! same path under the same rules always gets the same spelling.
//!
//! Some rules are known beforehand, such as the delimiter. The others no server announces: they are learned from its word
//! on CREATE, by a ladder of stricter rules ([`NameRules::stricter`]) of which the first that the server takes counts.

use unicode_normalization::UnicodeNormalization;

use crate::model::failure::FailureCode;
use crate::model::folder::FolderPath;

/// The longest paths that are tried where the server does not take longer ones, in bytes of its encoding. File systems take
/// names of 255 bytes, and servers put a few of their own into them.
const PATH_STEPS: [usize; 4] = [240, 120, 60, 30];
/// The fewest bytes that a name is cut to, whatever the rules say: a digest and a letter before it.
const NAME_MIN: usize = 12;
/// The separator between names that are joined into one.
const JOINT: &str = " - ";

/// Which characters a destination takes in a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Signs {
    /// All but its delimiter and control characters.
    All,
    /// Letters and digits of all languages, spaces, and `- _ ( ) & ,`.
    Plain,
    /// Letters and digits of all languages, spaces, and `- _ ( )`.
    Plainer,
    /// The same of ASCII alone.
    Ascii,
}

/// The rules of one destination, as far as they are known.
#[derive(Debug, Clone)]
pub struct NameRules {
    /// The separator between the names of a path; `None` where there is no hierarchy.
    pub delimiter: Option<char>,
    /// How many bytes a name takes in the destination's encoding.
    pub length_of: fn(&str) -> usize,
    /// Which characters it takes.
    pub signs: Signs,
    /// The longest name, in bytes of its encoding; at least 12.
    pub name_max: Option<usize>,
    /// The longest path with its delimiters, in bytes of its encoding; at least 12.
    pub path_max: Option<usize>,
    /// The most levels; at least 1. It is 1 where folders that hold mail hold no folders.
    pub depth_max: Option<usize>,
    /// Whether names that differ in case or in their Unicode form alone are one.
    pub folds: bool,
    /// Folders whose names the server keeps for itself.
    pub reserved: Vec<FolderPath>,
}

impl NameRules {
    /// Rules of which only the delimiter and the encoding are known.
    pub fn new(delimiter: Option<char>, length_of: fn(&str) -> usize) -> Self {
        Self {
            delimiter,
            length_of,
            signs: Signs::All,
            name_max: None,
            path_max: None,
            depth_max: None,
            folds: false,
            reserved: Vec::new(),
        }
    }

    /// The `n`th spelling of a path, counted from 1: as near to it as the rules let it be. Those beyond the first are marked
    /// with their number.
    pub fn spell(&self, path: &FolderPath, n: u32) -> FolderPath {
        if path.is_inbox() && n == 1 {
            return path.clone();
        }
        let mut names: Vec<String> = path.names().iter().map(|name| self.spell_name(name)).collect();
        if names.is_empty() {
            names.push("_".to_owned());
        }
        self.set_aside(&mut names);
        let levels = if self.delimiter.is_none() { Some(1) } else { self.depth_max };
        if let Some(levels) = levels.filter(|levels| names.len() > *levels) {
            join_below(&mut names, levels);
        }
        if let Some(last) = names.last_mut().filter(|_| n > 1) {
            *last = format!("{last} ({n})");
        }
        self.shorten(&mut names, path, n);
        FolderPath::new(names)
    }

    /// The key that two paths share if the destination takes them for one.
    pub fn key(&self, path: &FolderPath) -> FolderPath {
        if self.folds { fold(path) } else { path.clone() }
    }

    /// How long a path is in the destination's encoding, in bytes, with its delimiters.
    pub fn length(&self, path: &FolderPath) -> usize {
        let names = path.names();
        names.iter().map(|name| (self.length_of)(name)).sum::<usize>() + names.len().saturating_sub(1)
    }

    /// Stricter rules for a path that the server refused, in the order in which they are tried: its word on the refusal
    /// says where to begin.
    pub fn stricter(&self, path: &FolderPath, said: Option<FailureCode>) -> Vec<Self> {
        let length = self.length(path);
        let steps: Vec<usize> = PATH_STEPS.into_iter().filter(|step| length > *step).collect();
        // A name that no file system takes is shortened before anything else.
        let long = length > PATH_STEPS[0];
        let begin = if long { steps.first().copied() } else { None };
        let with = |signs: Signs, path_max: Option<usize>| Self {
            signs: self.signs.max(signs),
            path_max: path_max.into_iter().chain(self.path_max).min(),
            ..self.clone()
        };
        let mut plain: Vec<Self> =
            [Signs::All, Signs::Plain, Signs::Plainer, Signs::Ascii].map(|signs| with(signs, begin)).into();
        for step in steps.iter().filter(|step| Some(**step) != begin) {
            plain.extend([Signs::All, Signs::Ascii].map(|signs| with(signs, Some(*step))));
        }
        let depth = path.names().len();
        let aside = (1..=depth).map(|levels| {
            let mut reserved = self.reserved.clone();
            reserved.push(FolderPath::new(path.names()[..levels].iter().cloned()));
            Self { reserved, ..with(Signs::All, begin) }
        });
        let aside: Vec<Self> = aside.collect();
        let flat = |rules: &Self, levels: usize| Self { depth_max: Some(levels), ..rules.clone() };
        let flat: Vec<Self> = (1..depth)
            .rev()
            .map(|levels| flat(&with(Signs::All, begin), levels))
            .chain((1..depth).rev().map(|levels| flat(&with(Signs::Ascii, steps.last().copied()), levels)))
            .collect();
        match said {
            Some(FailureCode::NoInferiors) => [flat, plain, aside].concat(),
            Some(FailureCode::NameReserved) => [aside, plain, flat].concat(),
            _ => [plain, aside, flat].concat(),
        }
    }

    fn spell_name(&self, name: &str) -> String {
        let mut spelled = String::with_capacity(name.len());
        for c in name.chars() {
            if Some(c) == self.delimiter || c.is_control() {
                spelled.push('_');
            } else if self.signs == Signs::Ascii && !c.is_ascii() {
                // The letter below an accent says more than nothing.
                spelled
                    .push(std::iter::once(c).nfd().next().filter(char::is_ascii_alphanumeric).unwrap_or('_'));
            } else {
                spelled.push(if self.takes(c) { c } else { '_' });
            }
        }
        if spelled.is_empty() { "_".to_owned() } else { spelled }
    }

    fn takes(&self, c: char) -> bool {
        let sign = c.is_ascii_punctuation() && !matches!(c, '-' | '_' | '(' | ')');
        match self.signs {
            Signs::All => true,
            Signs::Plain => !sign || matches!(c, '&' | ','),
            Signs::Plainer | Signs::Ascii => !sign,
        }
    }

    /// Gives an underscore to names that the server keeps for itself.
    fn set_aside(&self, names: &mut [String]) {
        for levels in 1..=names.len() {
            let is_reserved = |names: &[String]| {
                let here = FolderPath::new(names[..levels].iter().cloned());
                self.reserved.iter().any(|reserved| self.key(reserved) == self.key(&here))
            };
            while is_reserved(names) {
                names[levels - 1].push('_');
            }
        }
    }

    /// Cuts names that are too long, each with a digest of what it stood for, so that two of them stay two.
    fn shorten(&self, names: &mut Vec<String>, path: &FolderPath, n: u32) {
        let name_max = self.name_max.map(|most| most.max(NAME_MIN));
        if let Some(most) = self.path_max.map(|most| most.max(NAME_MIN)) {
            // So deep that no name would keep a letter.
            let fits = |levels: usize| levels * (NAME_MIN + 1) - 1 <= most;
            let levels = (1..names.len()).rev().find(|levels| fits(*levels)).unwrap_or(1);
            if !fits(names.len()) {
                join_below(names, levels);
            }
            let mut room = most - (names.len() - 1);
            let lengths: Vec<usize> = names.iter().map(|name| (self.length_of)(name)).collect();
            if lengths.iter().sum::<usize>() > room {
                // The short ones stay as they are, and the others share what is left.
                let mut shortest: Vec<usize> = lengths;
                shortest.sort_unstable();
                let mut left = shortest.len();
                let mut cap = room / left;
                for length in shortest {
                    cap = room / left;
                    if length > cap {
                        break;
                    }
                    room -= length;
                    left -= 1;
                }
                self.cut_all(names, cap, path, n);
            }
        }
        if let Some(most) = name_max {
            self.cut_all(names, most, path, n);
        }
    }

    fn cut_all(&self, names: &mut [String], most: usize, path: &FolderPath, n: u32) {
        let last = names.len().saturating_sub(1);
        for (at, name) in names.iter_mut().enumerate() {
            if (self.length_of)(name) <= most {
                continue;
            }
            // A folder above is cut in the same way for all that are below it.
            let (upto, n) = if at == last { (path.names().len(), n) } else { (at + 1, 1) };
            let mark = digest(&path.names()[..upto.min(path.names().len())], n);
            let ends: Vec<usize> = name.char_indices().map(|(at, _)| at).collect();
            // Longer beginnings are longer in every encoding.
            let fits = |end: &usize| (self.length_of)(&format!("{} {mark}", &name[..*end])) <= most;
            let end = ends.partition_point(fits).checked_sub(1).map_or(0, |last| ends[last]);
            *name = if end > 0 { format!("{} {mark}", name[..end].trim_end()) } else { mark };
        }
    }
}

/// The form of a path when neither case nor Unicode form counts: it joins more paths than any server does.
pub fn fold(path: &FolderPath) -> FolderPath {
    let fold = |name: &String| -> String {
        let upper: String = name.nfkc().collect::<String>().to_uppercase();
        upper.to_lowercase().nfkc().collect()
    };
    FolderPath::new(path.names().iter().map(fold))
}

/// Joins what is below a level into one name.
fn join_below(names: &mut Vec<String>, levels: usize) {
    let joined = names.split_off(levels.max(1) - 1).join(JOINT);
    names.push(joined);
}

/// Eight characters that stand for a path.
fn digest(names: &[String], n: u32) -> String {
    let mut hasher = blake3::Hasher::new();
    for name in names {
        hasher.update(name.as_bytes());
        hasher.update(&[0]);
    }
    hasher.update(&n.to_be_bytes());
    hasher.finalize().to_hex()[..8].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drivers::imap::names::encode_utf7;

    fn utf7(name: &str) -> usize {
        encode_utf7(name).len()
    }

    fn path(text: &str) -> FolderPath {
        FolderPath::from_slashes(text)
    }

    fn rules() -> NameRules {
        NameRules::new(Some('/'), utf7)
    }

    #[test]
    fn a_long_name_is_cut_in_its_encoding_and_stays_its_own() {
        let rules = NameRules { path_max: Some(60), ..rules() };
        let long = |last: char| path(&format!("Projects/{}{last}", "Ü".repeat(300)));
        let (a, b) = (rules.spell(&long('a'), 1), rules.spell(&long('b'), 1));
        assert_ne!(a, b);
        for spelled in [&a, &b] {
            assert!((50..=60).contains(&rules.length(spelled)), "{spelled} {}", rules.length(spelled));
            assert!(spelled.to_string().starts_with("Projects/ÜÜÜ"), "{spelled}");
        }
        // A folder below one whose name was cut is below the same folder.
        let above = rules.spell(&path(&"x".repeat(300)), 1);
        let below = NameRules { path_max: None, name_max: Some(60), ..rules.clone() };
        let child = below.spell(&path(&format!("{}/child", "x".repeat(300))), 1);
        assert_eq!(child.names()[0], above.name());
    }

    #[test]
    fn each_rung_is_stricter_and_the_servers_word_says_where_to_begin() {
        let said = |code: Option<FailureCode>, of: &str| -> Vec<String> {
            let mut names: Vec<String> = Vec::new();
            for rules in rules().stricter(&path(of), code) {
                let name = rules.spell(&path(of), 1).to_string();
                if name != of && !names.contains(&name) {
                    names.push(name);
                }
            }
            names
        };
        assert_eq!(said(Some(FailureCode::NoInferiors), "A/B/C")[..2], ["A/B - C", "A - B - C"]);
        assert_eq!(said(Some(FailureCode::NameReserved), "Files/2020")[..2], ["Files_/2020", "Files/2020_"]);
        assert_eq!(said(None, "R&D: größer")[..3], ["R&D_ größer", "R_D_ größer", "R_D_ gro_er"]);
        let long = said(Some(FailureCode::NameRefused), &"y".repeat(300));
        assert!(long.iter().map(String::len).eq([240, 120, 60, 30]), "{long:?}");
    }

    #[test]
    fn what_is_reserved_gets_an_underscore() {
        let rules = NameRules { reserved: vec![path("Files"), path("Files_")], ..rules() };
        assert_eq!(rules.spell(&path("Files/2020"), 1), path("Files__/2020"));
        assert_eq!(rules.spell(&path("Other/Files"), 1), path("Other/Files"));
    }
}
