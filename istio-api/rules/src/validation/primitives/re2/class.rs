//! Character classes, and escapes that stand for one character.

use super::{Parser, Step};

/// General categories and scripts of Unicode.
const SETS: &str = "\
    Any C Cc Cf Cn Co Cs L LC Ll Lm Lo Lt Lu M Mc Me Mn N Nd Nl No P Pc Pd Pe Pf Pi Po Ps S Sc \
    Sk Sm So Z Zl Zp Zs \
    Adlam Ahom Anatolian_Hieroglyphs Arabic Armenian Avestan Balinese Bamum Bassa_Vah Batak \
    Bengali Bhaiksuki Bopomofo Brahmi Braille Buginese Buhid Canadian_Aboriginal Carian \
    Caucasian_Albanian Chakma Cham Cherokee Chorasmian Common Coptic Cuneiform Cypriot \
    Cypro_Minoan Cyrillic Deseret Devanagari Dives_Akuru Dogra Duployan Egyptian_Hieroglyphs \
    Elbasan Elymaic Ethiopic Garay Georgian Glagolitic Gothic Grantha Greek Gujarati \
    Gunjala_Gondi Gurmukhi Gurung_Khema Han Hangul Hanifi_Rohingya Hanunoo Hatran Hebrew \
    Hiragana Imperial_Aramaic Inherited Inscriptional_Pahlavi Inscriptional_Parthian Javanese \
    Kaithi Kannada Katakana Kawi Kayah_Li Kharoshthi Khitan_Small_Script Khmer Khojki \
    Khudawadi Kirat_Rai Lao Latin Lepcha Limbu Linear_A Linear_B Lisu Lycian Lydian Mahajani \
    Makasar Malayalam Mandaic Manichaean Marchen Masaram_Gondi Medefaidrin Meetei_Mayek \
    Mende_Kikakui Meroitic_Cursive Meroitic_Hieroglyphs Miao Modi Mongolian Mro Multani \
    Myanmar Nabataean Nag_Mundari Nandinagari New_Tai_Lue Newa Nko Nushu \
    Nyiakeng_Puachue_Hmong Ogham Ol_Chiki Ol_Onal Old_Hungarian Old_Italic Old_North_Arabian \
    Old_Permic Old_Persian Old_Sogdian Old_South_Arabian Old_Turkic Old_Uyghur Oriya Osage \
    Osmanya Pahawh_Hmong Palmyrene Pau_Cin_Hau Phags_Pa Phoenician Psalter_Pahlavi Rejang \
    Runic Samaritan Saurashtra Sharada Shavian Siddham SignWriting Sinhala Sogdian \
    Sora_Sompeng Soyombo Sundanese Sunuwar Syloti_Nagri Syriac Tagalog Tagbanwa Tai_Le \
    Tai_Tham Tai_Viet Takri Tamil Tangsa Tangut Telugu Thaana Thai Tibetan Tifinagh Tirhuta \
    Todhri Toto Tulu_Tigalari Ugaritic Vai Vithkuqi Wancho Warang_Citi Yezidi Yi \
    Zanabazar_Square";

impl Parser<'_> {
    pub(super) fn class(&mut self) -> Step {
        self.rest.next_if_eq('^');
        let mut first = true;
        loop {
            match self.rest.peek() {
                None => return Err("a bracket is not closed"),
                Some(']') if !first => {
                    self.rest.next();
                    return Ok(());
                }
                Some('[') if self.named_class()? => {}
                Some('\\') if self.short_class()? => {}
                Some(_) => self.range()?,
            }
            first = false;
        }
    }

    /// `[:alpha:]`; otherwise the bracket is a literal.
    fn named_class(&mut self) -> Step<bool> {
        const NAMES: [&str; 14] = [
            "alnum", "alpha", "ascii", "blank", "cntrl", "digit", "graph", "lower", "print",
            "punct", "space", "upper", "word", "xdigit",
        ];
        let Some(inside) = self.rest.0.strip_prefix("[:") else {
            return Ok(false);
        };
        let Some((name, _)) = inside.split_once(":]") else {
            return Ok(false);
        };
        if !NAMES.contains(&name.strip_prefix('^').unwrap_or(name)) {
            return Err("a character class is unknown");
        }
        for _ in 0..name.chars().count() + "[::]".len() {
            self.rest.next();
        }
        Ok(true)
    }

    fn short_class(&mut self) -> Step<bool> {
        let mut ahead = self.rest;
        ahead.next();
        match ahead.peek() {
            Some('d' | 'D' | 's' | 'S' | 'w' | 'W') => {
                ahead.next();
                self.rest = ahead;
                Ok(true)
            }
            Some('p' | 'P') => {
                self.rest = ahead;
                self.property()?;
                Ok(true)
            }
            _ => Ok(false),
        }
    }

    fn range(&mut self) -> Step {
        let low = self.class_character()?;
        let mut ahead = self.rest;
        if ahead.next() == Some('-') && ahead.peek().is_some_and(|c| c != ']') {
            self.rest = ahead;
            if self.class_character()? < low {
                return Err("a character range is reversed");
            }
        }
        Ok(())
    }

    fn class_character(&mut self) -> Step<char> {
        match self.rest.next() {
            Some('\\') => self.character(),
            Some(c) => Ok(c),
            None => Err("a bracket is not closed"),
        }
    }

    /// `\pL`, `\p{Greek}`, `\p{^Greek}`.
    pub(super) fn property(&mut self) -> Step {
        self.rest.next();
        let mut name = String::new();
        match self.rest.next() {
            Some('{') => loop {
                match self.rest.next() {
                    Some('}') => break,
                    Some(c) => name.push(c),
                    None => return Err("a character class is not closed"),
                }
            },
            Some(c) => name.push(c),
            None => return Err("a character class has no name"),
        }
        let name = name.strip_prefix('^').unwrap_or(&name);
        let known = SETS.split_ascii_whitespace().any(|set| set == name);
        if known {
            Ok(())
        } else {
            Err("a character class is unknown")
        }
    }

    /// What follows a backslash and stands for one character.
    pub(super) fn character(&mut self) -> Step<char> {
        let wrong = Err("an escape sequence is unknown");
        let Some(c) = self.rest.next() else {
            return Err("a backslash ends the expression");
        };
        match c {
            '0' => Ok(self.octal(0)),
            '1'..='7' => match self.rest.peek() {
                Some('0'..='7') => Ok(self.octal(c.to_digit(8).unwrap_or_default())),
                _ => Err("RE2 does not support backreferences"),
            },
            'x' => self.hexadecimal(),
            'a' => Ok('\x07'),
            'f' => Ok('\x0c'),
            'n' => Ok('\n'),
            'r' => Ok('\r'),
            't' => Ok('\t'),
            'v' => Ok('\x0b'),
            c if c.is_ascii() && !c.is_ascii_alphanumeric() => Ok(c),
            _ => wrong,
        }
    }

    fn octal(&mut self, first: u32) -> char {
        let mut value = first;
        for _ in 0..2 {
            match self.rest.next_if(|c| matches!(c, '0'..='7')) {
                Some(c) => value = value * 8 + c.to_digit(8).unwrap_or_default(),
                None => break,
            }
        }
        char::from_u32(value).unwrap_or_default()
    }

    fn hexadecimal(&mut self) -> Step<char> {
        let wrong = "want two hexadecimal digits after \\x, or some in braces";
        let mut digits = String::new();
        if self.rest.next_if_eq('{').is_some() {
            loop {
                match self.rest.next() {
                    Some('}') => break,
                    Some(c) => digits.push(c),
                    None => return Err(wrong),
                }
            }
        } else {
            digits.extend(self.rest.next());
            digits.extend(self.rest.next());
            if digits.chars().count() != 2 {
                return Err(wrong);
            }
        }
        if digits.is_empty() || !digits.chars().all(|c| c.is_ascii_hexdigit()) {
            return Err(wrong);
        }
        let value = u32::from_str_radix(&digits, 16).map_err(|_| wrong)?;
        // Surrogates are not characters, so they match nothing.
        if value > u32::from(char::MAX) {
            return Err(wrong);
        }
        Ok(char::from_u32(value).unwrap_or(char::REPLACEMENT_CHARACTER))
    }
}
