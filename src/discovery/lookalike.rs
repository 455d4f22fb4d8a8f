//! Names that look like another: letters of other scripts (IDN homographs, UTS 39) and Latin ones that are taken for each
//! other. Pure. It warns only; a name that is not inside the domain gets no password anyway.

use crate::model::address::Domain;

use super::trust::is_inside;

/// The form in which a host reads, if it can be taken for a host of the domain and is not one.
pub(super) fn looks_like(host: &str, domain: &Domain) -> Option<String> {
    if is_inside(host, domain) {
        return None;
    }
    let shown = idna::domain_to_unicode(host).0;
    let own = idna::domain_to_unicode(domain.as_str()).0;
    let labels = own.split('.').count();
    let all: Vec<&str> = shown.split('.').collect();
    let end = all.get(all.len().checked_sub(labels)?..)?.join(".");
    (end != own && skeleton(&end) == skeleton(&own)).then_some(shown)
}

/// A name with every letter replaced by the one that it can be taken for.
fn skeleton(name: &str) -> String {
    let lower: String = name.to_lowercase().chars().map(plain).collect();
    lower.replace("rn", "m").replace("vv", "w")
}

/// The Latin letter that a character looks like: the confusable small letters of Cyrillic and Greek (UTS 39), letters
/// with a mark that is easily missed, and digits.
fn plain(c: char) -> char {
    match c {
        'а' | 'α' | 'à' | 'á' | 'ạ' | 'ą' | 'ɑ' => 'a',
        'Ь' | 'ь' | 'ƅ' => 'b',
        'с' | 'ϲ' | 'ç' | 'ć' | 'ċ' => 'c',
        'ԁ' | 'đ' | 'ɗ' => 'd',
        'е' | 'ё' | 'é' | 'è' | 'ė' | 'ẹ' | 'ę' => 'e',
        'ɡ' | 'ġ' | 'ģ' => 'g',
        'һ' | 'ħ' | 'ḥ' => 'h',
        'і' | 'ї' | 'ι' | 'í' | 'ì' | 'ı' | 'ị' | 'l' | '1' | 'ӏ' | '|' => 'i',
        'ј' => 'j',
        'κ' | 'к' | 'ķ' => 'k',
        'ո' | 'ń' | 'ņ' | 'ṇ' => 'n',
        'о' | 'ο' | 'σ' | 'ö' | 'ó' | 'ò' | 'ọ' | 'ø' | '0' | 'օ' => 'o',
        'р' | 'ρ' => 'p',
        'ԛ' => 'q',
        'г' | 'ŗ' => 'r',
        'ѕ' | 'ś' | 'ş' | 'ș' | 'ṣ' | '5' => 's',
        'т' | 'τ' | 'ţ' | 'ț' => 't',
        'υ' | 'ս' | 'ü' | 'ù' | 'ú' | 'ụ' => 'u',
        'ν' | 'ѵ' => 'v',
        'ѡ' | 'ԝ' | 'ω' => 'w',
        'х' | 'χ' => 'x',
        'у' | 'ý' | 'ỵ' | 'γ' => 'y',
        'ʐ' | 'ż' | 'ź' | 'ẓ' => 'z',
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_read_alike_are_told_and_others_are_not() {
        let domain: Domain = "contoso.example".parse().unwrap();
        let ascii = |name: &str| idna::domain_to_ascii(name).unwrap();
        for (host, alike) in [
            ("imap.contoso.example", false),
            ("contoso.example", false),
            ("imap.hoster.example", false),
            ("contoso.test", false),
            ("example", false),
            ("imap.contos0.example", true),
            ("imap.c0ntoso.example", true),
            ("imap.contoso.exarnple", true),
            ("imap.contoso.examp1e", true),
            ("imap.contóso.example", true),
            // Cyrillic о.
            ("imap.cоntoso.example", true),
            ("соntоsо.example", true),
        ] {
            assert_eq!(looks_like(&ascii(host), &domain).is_some(), alike, "{host}");
        }
        let shown = looks_like(&ascii("imap.cоntoso.example"), &domain).unwrap();
        assert_eq!(shown, "imap.cоntoso.example");
    }

    #[test]
    fn a_domain_with_letters_of_its_own_is_no_look_alike_of_itself() {
        let own = idna::domain_to_ascii("müller.example").unwrap();
        let domain: Domain = own.parse().unwrap();
        assert_eq!(looks_like(&format!("imap.{own}"), &domain), None);
        assert!(looks_like("imap.muller.example", &domain).is_some());
    }
}
