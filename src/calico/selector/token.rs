//! The words of a selector.

use super::SelectorError;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Token<'a> {
    Label(&'a str),
    Text(&'a str),
    Has(&'a str),
    All,
    Global,
    OpenBrace,
    CloseBrace,
    Comma,
    OpenParenthesis,
    CloseParenthesis,
    Equal,
    NotEqual,
    In,
    NotIn,
    Contains,
    StartsWith,
    EndsWith,
    Not,
    And,
    Or,
    End,
}

impl Token<'_> {
    /// For messages.
    pub(super) fn shown(self) -> String {
        match self {
            Self::Label(name) => format!("the label {name:?}"),
            Self::Text(text) => format!("the text {text:?}"),
            Self::Has(name) => format!("has({name})"),
            Self::All => "all()".to_owned(),
            Self::Global => "global()".to_owned(),
            Self::OpenBrace => "\"{\"".to_owned(),
            Self::CloseBrace => "\"}\"".to_owned(),
            Self::Comma => "\",\"".to_owned(),
            Self::OpenParenthesis => "\"(\"".to_owned(),
            Self::CloseParenthesis => "\")\"".to_owned(),
            Self::Equal => "\"==\"".to_owned(),
            Self::NotEqual => "\"!=\"".to_owned(),
            Self::In => "\"in\"".to_owned(),
            Self::NotIn => "\"not in\"".to_owned(),
            Self::Contains => "\"contains\"".to_owned(),
            Self::StartsWith => "\"starts with\"".to_owned(),
            Self::EndsWith => "\"ends with\"".to_owned(),
            Self::Not => "\"!\"".to_owned(),
            Self::And => "\"&&\"".to_owned(),
            Self::Or => "\"||\"".to_owned(),
            Self::End => "the end".to_owned(),
        }
    }
}

/// Longest label, in bytes.
const MAX_LABEL: usize = 512;

/// Hands out tokens with their byte offsets.
pub(super) struct Tokens<'a> {
    text: &'a str,
    at: usize,
    after_label: bool,
}

impl<'a> Tokens<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self { text, at: 0, after_label: false }
    }

    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn skip_blanks(&mut self) {
        let rest = self.rest();
        self.at += rest.len() - rest.trim_start_matches([' ', '\t']).len();
    }

    fn error(&self, at: usize, message: impl Into<String>, fix: impl Into<String>) -> SelectorError {
        SelectorError::new(self.text, at, message, fix)
    }

    /// The next token and its offset.
    pub(super) fn next(&mut self) -> Result<(usize, Token<'a>), SelectorError> {
        self.skip_blanks();
        let at = self.at;
        let token = self.token(at)?;
        self.after_label = matches!(token, Token::Label(_));
        Ok((at, token))
    }

    fn token(&mut self, at: usize) -> Result<Token<'a>, SelectorError> {
        let rest = self.rest();
        let Some(first) = rest.chars().next() else { return Ok(Token::End) };
        let fixed = [
            ("==", Token::Equal),
            ("!=", Token::NotEqual),
            ("&&", Token::And),
            ("||", Token::Or),
            ("!", Token::Not),
            ("(", Token::OpenParenthesis),
            (")", Token::CloseParenthesis),
            ("{", Token::OpenBrace),
            ("}", Token::CloseBrace),
            (",", Token::Comma),
        ];
        if let Some((word, token)) = fixed.into_iter().find(|(word, _)| rest.starts_with(word)) {
            self.at += word.len();
            return Ok(token);
        }
        match first {
            '"' | '\'' => {
                let inside = rest.get(1..).unwrap_or_default();
                let Some(end) = inside.find(first) else {
                    return Err(self.error(at, "a quote is opened and not closed", format!("close it with {first}")));
                };
                self.at += end + 2;
                Ok(Token::Text(inside.get(..end).unwrap_or_default()))
            }
            '=' => Err(self.error(at, "a single =", "write ==")),
            '&' => Err(self.error(at, "a single &", "write &&")),
            '|' => Err(self.error(at, "a single |", "write ||")),
            '\n' | '\r' => {
                let fix = "write the selector in one line; in YAML use >- instead of |";
                Err(self.error(at, "a line break, which selectors do not take", fix))
            }
            _ if self.after_label => self.operator(at),
            _ => self.word(at),
        }
    }

    /// A word operator; they count as such only right behind a label.
    fn operator(&mut self, at: usize) -> Result<Token<'a>, SelectorError> {
        let words = [
            ("contains", "", Token::Contains),
            ("starts", "with", Token::StartsWith),
            ("ends", "with", Token::EndsWith),
            ("not", "in", Token::NotIn),
            ("in", "", Token::In),
        ];
        for (first, second, token) in words {
            let Some(rest) = self.rest().strip_prefix(first) else { continue };
            let tail =
                if second.is_empty() { Some(rest) } else { rest.trim_start_matches([' ', '\t']).strip_prefix(second) };
            if let Some(tail) = tail
                && !tail.starts_with(is_label_character)
            {
                self.at = self.text.len() - tail.len();
                return Ok(token);
            }
        }
        let message = "no operator behind the label";
        Err(self.error(at, message, "expected ==, !=, in, not in, contains, starts with or ends with"))
    }

    fn word(&mut self, at: usize) -> Result<Token<'a>, SelectorError> {
        for (word, token) in [("has(", None), ("all(", Some(Token::All)), ("global(", Some(Token::Global))] {
            if !self.rest().starts_with(word) {
                continue;
            }
            self.at += word.len();
            self.skip_blanks();
            let token = match token {
                Some(token) => token,
                None => Token::Has(self.label(self.at, "a label's name in has()")?),
            };
            self.skip_blanks();
            if !self.rest().starts_with(')') {
                return Err(self.error(self.at, format!("no ) behind {word}"), "close the parenthesis"));
            }
            self.at += 1;
            return Ok(token);
        }
        self.label(at, "a label or an operation").map(Token::Label)
    }

    fn label(&mut self, at: usize, expected: &str) -> Result<&'a str, SelectorError> {
        let rest = self.rest();
        let end = rest.find(|c| !is_label_character(c)).unwrap_or(rest.len());
        if end == 0 {
            let found = rest.chars().next().map_or("the end".to_owned(), |c| format!("{c:?}"));
            let fix = "labels are letters, digits and _ . / -; texts stand in quotes";
            return Err(self.error(at, format!("found {found}, expected {expected}"), fix));
        }
        if end > MAX_LABEL {
            return Err(self.error(at, format!("a label of {end} characters, at most {MAX_LABEL}"), "shorten it"));
        }
        self.at += end;
        Ok(rest.get(..end).unwrap_or_default())
    }
}

fn is_label_character(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '/' | '-')
}
