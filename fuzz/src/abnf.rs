//! The grammar of RFC 8659 §4.2 as an automaton: one state for each place in the ABNF, one step for each octet.
//!
//! ```text
//! issue-value        = *WSP [issuer-domain-name *WSP] [";" *WSP [parameters *WSP]]
//! issuer-domain-name = label *("." label)
//! label              = (ALPHA / DIGIT) *( *("-") (ALPHA / DIGIT))
//! parameters         = (parameter *WSP ";" *WSP parameters) / parameter
//! parameter          = tag *WSP "=" *WSP value
//! tag                = (ALPHA / DIGIT) *( *("-") (ALPHA / DIGIT))
//! value              = *(%x21-3A / %x3C-7E)
//! ```

#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Blanks at the very begin.
    Begin,
    /// After a letter or digit of a label.
    Label,
    /// After a hyphen of a label, or the dot before one.
    LabelOpen,
    /// Blanks after the issuer.
    AfterIssuer,
    /// After the first `;`, where everything may end.
    FirstSemicolon,
    /// After a later `;`, where a parameter must follow.
    Semicolon,
    /// After a letter or digit of a tag.
    Tag,
    /// After a hyphen of a tag.
    TagOpen,
    /// Blanks after a tag.
    AfterTag,
    /// After `=`: blanks, or the value, which may be empty.
    Equals,
    /// In a value.
    Value,
    /// Blanks after a value.
    AfterValue,
}

/// What a value says: its issuer and its parameters.
pub type Said = (Option<String>, Vec<(String, String)>);

/// Whether `octets` are an issue-value, and what it says.
#[must_use]
pub fn recognise(octets: &[u8]) -> Option<Said> {
    use Place::*;
    let mut place = Begin;
    let mut issuer = String::new();
    let mut parameters: Vec<(String, String)> = Vec::new();
    for &octet in octets {
        let letter = char::from(octet);
        let (alnum, blank) = (letter.is_ascii_alphanumeric(), octet == 0x20 || octet == 0x09);
        let visible = (0x21..=0x3a).contains(&octet) || (0x3c..=0x7e).contains(&octet);
        place = match place {
            Begin | AfterIssuer if blank => place,
            Begin | Label | AfterIssuer if letter == ';' => FirstSemicolon,
            Begin | Label | LabelOpen if alnum => Label,
            Label | LabelOpen if letter == '-' && (place == Label || issuer.ends_with('-')) => LabelOpen,
            Label if letter == '.' => LabelOpen,
            Label if blank => AfterIssuer,
            FirstSemicolon | Semicolon | AfterTag | Equals | AfterValue if blank => place,
            FirstSemicolon | Semicolon if alnum => {
                parameters.push((String::new(), String::new()));
                Tag
            }
            Tag | TagOpen if alnum => Tag,
            Tag | TagOpen if letter == '-' => TagOpen,
            Tag if blank => AfterTag,
            Tag | AfterTag if letter == '=' => Equals,
            Equals | Value if visible => Value,
            Equals | Value | AfterValue if letter == ';' => Semicolon,
            Value if blank => AfterValue,
            _ => return None,
        };
        match (place, parameters.last_mut()) {
            (Label | LabelOpen, _) => issuer.push(letter),
            (Tag | TagOpen, Some((tag, _))) => tag.push(letter),
            (Value, Some((_, value))) => value.push(letter),
            _ => {}
        }
    }
    let complete = matches!(place, Begin | Label | AfterIssuer | FirstSemicolon | Equals | Value | AfterValue);
    complete.then(|| ((!issuer.is_empty()).then_some(issuer), parameters))
}

#[cfg(test)]
mod tests {
    use super::recognise;

    #[test]
    fn the_examples_of_req_c12() {
        for fits in ["", " \t", ";", " ; ", "ca.example", " ca.example ; a=b; c = d ", "a--b", "a; b=", "a;b=c=d"] {
            assert!(recognise(fits.as_bytes()).is_some(), "{fits:?}");
        }
        for not in
            ["ca.example.", "a; b=c;", "a;b", ".a", "-a", "a-", "a.-b", "a b", "bücher", "a;;b=c", "a;b=c d", "a_b"]
        {
            assert!(recognise(not.as_bytes()).is_none(), "{not:?}");
        }
        let parameters = vec![("b".to_owned(), "c".to_owned()), ("d".to_owned(), String::new())];
        assert_eq!(recognise(b"\tX.y ;b = c;d=\t"), Some((Some("X.y".to_owned()), parameters)));
    }
}
