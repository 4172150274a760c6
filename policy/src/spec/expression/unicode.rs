//! Sets of characters by their names in Unicode, as RE2 and Go know them: general categories in one
//! or two letters, and scripts in full, each in the one spelling. What else this project's parser
//! would know, such as `Letter` or `Alphabetic`, the proxy that Cilium configures refuses.

/// General categories, but for those that [`set`] spells out.
const CATEGORIES: &[&str] = &[
    "L", "Ll", "Lm", "Lo", "Lt", "Lu", "M", "Mc", "Me", "Mn", "N", "Nd", "Nl", "No", "P", "Pc",
    "Pd", "Pe", "Pf", "Pi", "Po", "Ps", "S", "Sc", "Sk", "Sm", "So", "Z", "Zl", "Zp", "Zs", "Cc",
    "Cf", "Co",
];

/// The scripts of Unicode 15, in order.
const SCRIPTS: &[&str] = &[
    "Adlam",
    "Ahom",
    "Anatolian_Hieroglyphs",
    "Arabic",
    "Armenian",
    "Avestan",
    "Balinese",
    "Bamum",
    "Bassa_Vah",
    "Batak",
    "Bengali",
    "Bhaiksuki",
    "Bopomofo",
    "Brahmi",
    "Braille",
    "Buginese",
    "Buhid",
    "Canadian_Aboriginal",
    "Carian",
    "Caucasian_Albanian",
    "Chakma",
    "Cham",
    "Cherokee",
    "Chorasmian",
    "Common",
    "Coptic",
    "Cuneiform",
    "Cypriot",
    "Cypro_Minoan",
    "Cyrillic",
    "Deseret",
    "Devanagari",
    "Dives_Akuru",
    "Dogra",
    "Duployan",
    "Egyptian_Hieroglyphs",
    "Elbasan",
    "Elymaic",
    "Ethiopic",
    "Georgian",
    "Glagolitic",
    "Gothic",
    "Grantha",
    "Greek",
    "Gujarati",
    "Gunjala_Gondi",
    "Gurmukhi",
    "Han",
    "Hangul",
    "Hanifi_Rohingya",
    "Hanunoo",
    "Hatran",
    "Hebrew",
    "Hiragana",
    "Imperial_Aramaic",
    "Inherited",
    "Inscriptional_Pahlavi",
    "Inscriptional_Parthian",
    "Javanese",
    "Kaithi",
    "Kannada",
    "Katakana",
    "Kawi",
    "Kayah_Li",
    "Kharoshthi",
    "Khitan_Small_Script",
    "Khmer",
    "Khojki",
    "Khudawadi",
    "Lao",
    "Latin",
    "Lepcha",
    "Limbu",
    "Linear_A",
    "Linear_B",
    "Lisu",
    "Lycian",
    "Lydian",
    "Mahajani",
    "Makasar",
    "Malayalam",
    "Mandaic",
    "Manichaean",
    "Marchen",
    "Masaram_Gondi",
    "Medefaidrin",
    "Meetei_Mayek",
    "Mende_Kikakui",
    "Meroitic_Cursive",
    "Meroitic_Hieroglyphs",
    "Miao",
    "Modi",
    "Mongolian",
    "Mro",
    "Multani",
    "Myanmar",
    "Nabataean",
    "Nag_Mundari",
    "Nandinagari",
    "New_Tai_Lue",
    "Newa",
    "Nko",
    "Nushu",
    "Nyiakeng_Puachue_Hmong",
    "Ogham",
    "Ol_Chiki",
    "Old_Hungarian",
    "Old_Italic",
    "Old_North_Arabian",
    "Old_Permic",
    "Old_Persian",
    "Old_Sogdian",
    "Old_South_Arabian",
    "Old_Turkic",
    "Old_Uyghur",
    "Oriya",
    "Osage",
    "Osmanya",
    "Pahawh_Hmong",
    "Palmyrene",
    "Pau_Cin_Hau",
    "Phags_Pa",
    "Phoenician",
    "Psalter_Pahlavi",
    "Rejang",
    "Runic",
    "Samaritan",
    "Saurashtra",
    "Sharada",
    "Shavian",
    "Siddham",
    "SignWriting",
    "Sinhala",
    "Sogdian",
    "Sora_Sompeng",
    "Soyombo",
    "Sundanese",
    "Syloti_Nagri",
    "Syriac",
    "Tagalog",
    "Tagbanwa",
    "Tai_Le",
    "Tai_Tham",
    "Tai_Viet",
    "Takri",
    "Tamil",
    "Tangsa",
    "Tangut",
    "Telugu",
    "Thaana",
    "Thai",
    "Tibetan",
    "Tifinagh",
    "Tirhuta",
    "Toto",
    "Ugaritic",
    "Vai",
    "Vithkuqi",
    "Wancho",
    "Warang_Citi",
    "Yezidi",
    "Yi",
    "Zanabazar_Square",
];

/// The set of a name, as the proxy here reads it in brackets or outside; none if no such name is
/// known. `others`: all characters that are not in it.
pub(super) fn set(name: &str, others: bool) -> Option<String> {
    let (name, others) = match name.strip_prefix('^') {
        Some(name) => (name, !others),
        None => (name, others),
    };
    let within = match name {
        "Any" => r"\x{0}-\x{10FFFF}".to_owned(),
        // In RE2 what is not assigned is in no category.
        "C" => r"\p{gc=Cc}\p{gc=Cf}\p{gc=Co}".to_owned(),
        // Surrogates, of which none stands in a text.
        "Cs" => return set("Any", !others),
        own if CATEGORIES.contains(&own) => format!(r"\p{{gc={own}}}"),
        own if SCRIPTS.binary_search(&own).is_ok() => format!(r"\p{{sc={own}}}"),
        _ => return None,
    };
    Some(format!("[{}{within}]", if others { "^" } else { "" }))
}

#[cfg(test)]
mod tests {
    use regex_syntax::hir::{Class, HirKind};

    use super::*;

    /// Whether a set has a character.
    fn has(name: &str, others: bool, c: char) -> bool {
        let set = set(name, others).unwrap();
        let hir = regex_syntax::parse(&format!("[{set}]")).unwrap();
        match hir.kind() {
            HirKind::Class(Class::Unicode(class)) => {
                class.ranges().iter().any(|range| (range.start()..=range.end()).contains(&c))
            }
            // What matches nothing is one of bytes.
            HirKind::Class(Class::Bytes(class)) => !class.ranges().is_empty(),
            HirKind::Literal(literal) => *literal.0 == *c.to_string().as_bytes(),
            _ => panic!("{name}: {hir:?}"),
        }
    }

    #[test]
    fn every_name_is_one_that_the_proxy_knows() {
        for name in CATEGORIES.iter().chain(SCRIPTS).chain(&["Any", "C", "Cs"]) {
            for others in [false, true] {
                let has = |c| has(name, others, c);
                let all = ['a', 'Z', '7', ' ', '\u{3b1}', '\u{10ffff}'].map(has);
                assert!(all.iter().all(|own| *own) || all.iter().any(|own| !own), "{name}");
            }
        }
        assert!(SCRIPTS.is_sorted());
    }

    #[test]
    fn a_name_means_what_it_means_in_re2() {
        let (alpha, unassigned) = ('\u{3b1}', '\u{378}');
        for (name, c, expected) in [
            ("Greek", alpha, true),
            ("Greek", 'a', false),
            ("^Greek", 'a', true),
            ("Latin", 'a', true),
            ("L", alpha, true),
            ("Lu", 'a', false),
            ("Sc", '$', true),
            ("Nd", '7', true),
            ("Zs", ' ', true),
            ("C", '\n', true),
            ("C", unassigned, false),
            ("^C", unassigned, true),
            ("Cs", 'a', false),
            ("^Cs", 'a', true),
            ("Any", unassigned, true),
            ("^Any", 'a', false),
            // A script is what a character belongs to, not what else uses it.
            ("Greek", '\u{342}', false),
        ] {
            assert_eq!(has(name, false, c), expected, "{name} {c:?}");
            assert_eq!(has(name, true, c), !expected, "others than {name} {c:?}");
        }
    }

    #[test]
    fn names_that_only_others_know_are_none() {
        let names =
            ["Letter", "greek", "lu", "Alphabetic", "sc=Greek", "Cn", "LC", "ASCII", "", "^"];
        for name in names.into_iter().chain(["^^Greek", "Script=Greek", "Uppercase", "X", "gc=Lu"])
        {
            assert_eq!(set(name, false), None, "{name}");
        }
    }
}
