//! Tokens into a tree.

use super::token::{Token, Tokens};
use super::{Expression, MAX_DEPTH, MAX_LENGTH, SelectorError};

pub(super) fn parse(text: &str) -> Result<Expression, SelectorError> {
    if text.len() > MAX_LENGTH {
        let message = format!("{} characters, at most {MAX_LENGTH} are read", text.len());
        return Err(SelectorError::new(text, 0, message, "shorten it"));
    }
    let mut tokens = Tokens::new(text);
    let (at, next) = tokens.next()?;
    let mut parser = Parser { text, tokens, at, next };
    if parser.next == Token::End {
        return Ok(Expression::All);
    }
    let expression = parser.or(0)?;
    if parser.next != Token::End {
        return Err(parser.unexpected("&&, || or the end"));
    }
    Ok(expression)
}

struct Parser<'a> {
    text: &'a str,
    tokens: Tokens<'a>,
    /// Offset of `next`.
    at: usize,
    next: Token<'a>,
}

impl<'a> Parser<'a> {
    fn take(&mut self) -> Result<Token<'a>, SelectorError> {
        let token = self.next;
        (self.at, self.next) = self.tokens.next()?;
        Ok(token)
    }

    fn unexpected(&self, expected: &str) -> SelectorError {
        let message = format!("found {}, expected {expected}", self.next.shown());
        let fix = match self.next {
            Token::Label(_) if expected.starts_with("a text") => "put the value in quotes",
            _ => "",
        };
        SelectorError::new(self.text, self.at, message, fix)
    }

    fn or(&mut self, depth: usize) -> Result<Expression, SelectorError> {
        let mut operands = vec![self.and(depth)?];
        while self.next == Token::Or {
            self.take()?;
            operands.push(self.and(depth)?);
        }
        Ok(if operands.len() == 1 { operands.remove(0) } else { Expression::Or(operands) })
    }

    fn and(&mut self, depth: usize) -> Result<Expression, SelectorError> {
        let mut operands = vec![self.operation(depth)?];
        while self.next == Token::And {
            self.take()?;
            operands.push(self.operation(depth)?);
        }
        Ok(if operands.len() == 1 { operands.remove(0) } else { Expression::And(operands) })
    }

    fn operation(&mut self, depth: usize) -> Result<Expression, SelectorError> {
        if depth > MAX_DEPTH {
            let message = format!("parentheses nest deeper than {MAX_DEPTH}");
            return Err(SelectorError::new(self.text, self.at, message, "write it flatter"));
        }
        let mut negated = false;
        while self.next == Token::Not {
            self.take()?;
            negated = !negated;
        }
        let expression = match self.next {
            Token::Has(key) => {
                self.take()?;
                Expression::Has(key.to_owned())
            }
            Token::All => {
                self.take()?;
                Expression::All
            }
            Token::Global => {
                self.take()?;
                Expression::Global
            }
            Token::Label(key) => {
                self.take()?;
                self.comparison(key)?
            }
            Token::OpenParenthesis => {
                self.take()?;
                let inside = self.or(depth + 1)?;
                if self.next != Token::CloseParenthesis {
                    return Err(self.unexpected("\")\""));
                }
                self.take()?;
                inside
            }
            _ => return Err(self.unexpected("a label, has(), all() or \"(\"")),
        };
        Ok(if negated { Expression::Not(Box::new(expression)) } else { expression })
    }

    fn comparison(&mut self, key: &str) -> Result<Expression, SelectorError> {
        let key = key.to_owned();
        let operator = self.next;
        match operator {
            Token::Equal | Token::NotEqual | Token::Contains | Token::StartsWith | Token::EndsWith => {
                self.take()?;
                let Token::Text(value) = self.next else { return Err(self.unexpected("a text in quotes")) };
                self.take()?;
                let value = value.to_owned();
                Ok(match operator {
                    Token::Equal => Expression::Equal(key, value),
                    Token::NotEqual => Expression::NotEqual(key, value),
                    Token::Contains => Expression::Contains(key, value),
                    Token::StartsWith => Expression::StartsWith(key, value),
                    _ => Expression::EndsWith(key, value),
                })
            }
            Token::In | Token::NotIn => {
                self.take()?;
                let values = self.set()?;
                Ok(if operator == Token::In { Expression::In(key, values) } else { Expression::NotIn(key, values) })
            }
            _ => Err(self.unexpected("an operator such as == behind the label")),
        }
    }

    /// `{'a', 'b'}`, sorted, each once; a comma may end it.
    fn set(&mut self) -> Result<Vec<String>, SelectorError> {
        if self.next != Token::OpenBrace {
            return Err(self.unexpected("\"{\" and a set of texts"));
        }
        self.take()?;
        let mut values = Vec::new();
        while let Token::Text(value) = self.next {
            values.push(value.to_owned());
            self.take()?;
            if self.next != Token::Comma {
                break;
            }
            self.take()?;
        }
        if self.next != Token::CloseBrace {
            return Err(self.unexpected("a text in quotes or \"}\""));
        }
        self.take()?;
        values.sort_unstable();
        values.dedup();
        Ok(values)
    }
}
