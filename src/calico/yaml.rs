//! A YAML or JSON document as a tree that knows its lines.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_saphyr::Spanned;

/// A value and where it stands.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::calico) struct Node {
    /// 1-based, in the document.
    pub(in crate::calico) line: u32,
    /// 1-based, in characters; 0 when unknown.
    pub(in crate::calico) column: u32,
    pub(in crate::calico) form: Form,
    pub(in crate::calico) value: Value,
}

/// How a value was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::calico) enum Form {
    /// A truth value.
    Bool,
    /// A number.
    Number,
    /// Text without quotes, or in a block.
    Plain,
    /// Text in quotes.
    Quoted,
    /// A list, a map or nothing.
    Other,
}

#[derive(Clone, Debug, PartialEq)]
pub(in crate::calico) enum Value {
    Null,
    /// Truth values, numbers and texts, as text.
    Scalar(String),
    List(Vec<Node>),
    /// Key, line of the key, value.
    Map(Vec<(String, u32, Node)>),
}

/// A document that does not parse.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::calico) struct Malformed {
    /// 1-based, in the document; 0 when unknown.
    pub(in crate::calico) line: u32,
    /// 1-based; 0 when unknown.
    pub(in crate::calico) column: u32,
    pub(in crate::calico) message: String,
}

/// Deepest nesting of lists and maps; Calico's resources need about ten.
const MAX_DEPTH: usize = 64;

/// One document.
pub(in crate::calico) fn read(text: &str) -> Result<Node, Malformed> {
    // a value takes a byte at least, but where aliases repeat it
    let most = (text.len() + 1_000).min(4_000_000);
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! { max_depth: MAX_DEPTH, max_nodes: most, max_events: 4 * most },
        with_snippet: false,
    };
    let root: Result<Spanned<Raw>, _> = serde_saphyr::from_str_with_options(text, options);
    let lines: Vec<&str> = text.lines().collect();
    root.map(|root| node(root, &lines)).map_err(|error| {
        let location = error.location();
        let number = |value: Option<u64>| value.and_then(|value| u32::try_from(value).ok()).unwrap_or(0);
        let mut text = error.to_string();
        if text.contains("recursion limit") {
            text = format!("values may nest {MAX_DEPTH} deep: {text}");
        }
        Malformed {
            line: number(location.map(|location| location.line())),
            column: number(location.map(|location| location.column())),
            message: super::settings::ports::shortened(text.lines().next().unwrap_or("not YAML")),
        }
    })
}

impl Node {
    /// The value under `key`.
    pub(in crate::calico) fn get(&self, key: &str) -> Option<&Node> {
        self.entries().iter().find(|(name, _, _)| name == key).map(|(_, _, node)| node)
    }

    /// Keys, their lines and values of a map; nothing for anything else.
    pub(in crate::calico) fn entries(&self) -> &[(String, u32, Node)] {
        match &self.value {
            Value::Map(entries) => entries,
            _ => &[],
        }
    }

    /// Elements of a list; nothing for anything else.
    pub(in crate::calico) fn items(&self) -> &[Node] {
        match &self.value {
            Value::List(items) => items,
            _ => &[],
        }
    }

    /// Nothing, at this line.
    pub(in crate::calico) fn null(line: u32) -> Self {
        Self { line, column: 0, form: Form::Other, value: Value::Null }
    }

    /// The same with `offset` more lines before it.
    pub(in crate::calico) fn moved(mut self, offset: u32) -> Self {
        self.line = self.line.saturating_add(offset);
        self.value = match self.value {
            Value::List(items) => Value::List(items.into_iter().map(|item| item.moved(offset)).collect()),
            Value::Map(entries) => Value::Map(
                entries
                    .into_iter()
                    .map(|(key, line, value)| (key, line.saturating_add(offset), value.moved(offset)))
                    .collect(),
            ),
            scalar => scalar,
        };
        self
    }

    /// The text of a scalar.
    pub(in crate::calico) fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Scalar(text) => Some(text),
            _ => None,
        }
    }
}

fn node(raw: Spanned<Raw>, lines: &[&str]) -> Node {
    let line = u32::try_from(raw.referenced.line()).unwrap_or(0);
    let column = u32::try_from(raw.referenced.column()).unwrap_or(0);
    let (form, value) = match raw.value {
        Raw::Null => (Form::Other, Value::Null),
        Raw::Bool(value) => (Form::Bool, Value::Scalar(value.to_string())),
        Raw::Number(text) => (Form::Number, Value::Scalar(text)),
        Raw::Text(text) => {
            let starts = |rest: &str| rest.starts_with(['"', '\'']);
            let at = usize::try_from(line).ok().and_then(|line| lines.get(line.checked_sub(1)?));
            let skip = usize::try_from(column).unwrap_or(0).saturating_sub(1);
            let quoted = at.and_then(|line| line.char_indices().nth(skip).and_then(|(at, _)| line.get(at..)));
            (if quoted.is_some_and(starts) { Form::Quoted } else { Form::Plain }, Value::Scalar(text))
        }
        Raw::List(items) => (Form::Other, Value::List(items.into_iter().map(|item| node(item, lines)).collect())),
        Raw::Map(entries) => {
            let entries = entries.into_iter().map(|(key, value)| {
                let line = u32::try_from(key.referenced.line()).unwrap_or(0);
                (key.value, line, node(value, lines))
            });
            (Form::Other, Value::Map(entries.collect()))
        }
    };
    Node { line, column, form, value }
}

enum Raw {
    Null,
    Bool(bool),
    Number(String),
    Text(String),
    List(Vec<Spanned<Raw>>),
    Map(Vec<(Spanned<String>, Spanned<Raw>)>),
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct RawVisitor;
        impl<'de> Visitor<'de> for RawVisitor {
            type Value = Raw;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a YAML value")
            }

            fn visit_unit<E: Error>(self) -> Result<Raw, E> {
                Ok(Raw::Null)
            }

            fn visit_none<E: Error>(self) -> Result<Raw, E> {
                Ok(Raw::Null)
            }

            fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Raw, D::Error> {
                Raw::deserialize(deserializer)
            }

            fn visit_bool<E: Error>(self, value: bool) -> Result<Raw, E> {
                Ok(Raw::Bool(value))
            }

            fn visit_i64<E: Error>(self, value: i64) -> Result<Raw, E> {
                Ok(Raw::Number(value.to_string()))
            }

            fn visit_u64<E: Error>(self, value: u64) -> Result<Raw, E> {
                Ok(Raw::Number(value.to_string()))
            }

            fn visit_i128<E: Error>(self, value: i128) -> Result<Raw, E> {
                Ok(Raw::Number(value.to_string()))
            }

            fn visit_u128<E: Error>(self, value: u128) -> Result<Raw, E> {
                Ok(Raw::Number(value.to_string()))
            }

            fn visit_f64<E: Error>(self, value: f64) -> Result<Raw, E> {
                Ok(Raw::Number(value.to_string()))
            }

            fn visit_str<E: Error>(self, value: &str) -> Result<Raw, E> {
                Ok(Raw::Text(value.to_owned()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Raw, A::Error> {
                let mut items = Vec::new();
                while let Some(item) = access.next_element()? {
                    items.push(item);
                }
                Ok(Raw::List(items))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Raw, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = access.next_entry()? {
                    entries.push(entry);
                }
                Ok(Raw::Map(entries))
            }
        }
        deserializer.deserialize_any(RawVisitor)
    }
}

/// The documents of a stream, each with the number of lines before it. A line of `---` at the margin always starts one.
pub(in crate::calico) fn documents(text: &str) -> Vec<(u32, &str)> {
    let mut documents = Vec::new();
    let (mut start, mut start_line, mut at) = (0, 0u32, 0);
    for (line, text_line) in (0u32..).zip(text.split_inclusive('\n')) {
        let marker =
            text_line.strip_prefix("---").is_some_and(|rest| rest.is_empty() || rest.starts_with(char::is_whitespace));
        if marker && at > start {
            documents.push((start_line, text.get(start..at).unwrap_or_default()));
            (start, start_line) = (at, line);
        }
        at += text_line.len();
    }
    documents.push((start_line, text.get(start..).unwrap_or_default()));
    documents
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trees_know_their_lines() {
        let root = read("a: 1\nb:\n  - x: yes\n    port: 22\n  - 'q'\nc: ~\nd: []\n").expect("good YAML");
        assert_eq!(root.get("a").and_then(Node::text), Some("1"));
        let list = root.get("b").expect("b").items();
        assert_eq!(list[0].get("port").map(|n| (n.text(), n.line)), Some((Some("22"), 4)));
        assert_eq!(list[1].text(), Some("q"));
        assert_eq!(root.get("c").map(|n| &n.value), Some(&Value::Null));
        assert_eq!(root.get("d").map(|n| &n.value), Some(&Value::List(vec![])));
        assert_eq!(root.entries()[1].1, 2);
    }

    #[test]
    fn trees_know_how_values_were_written() {
        let root =
            read("a: true\nb: 6040:6050\nc: '443'\nd: >-\n  x\ne: 1e3\nf: \"é\" \ng: {é: 'x', h: z}\n").expect("good");
        let form = |key: &str| root.get(key).map(|node| (node.form, node.text().unwrap_or_default().to_owned()));
        assert_eq!(form("a"), Some((Form::Bool, "true".to_owned())));
        assert_eq!(form("b"), Some((Form::Plain, "6040:6050".to_owned())));
        assert_eq!(form("c"), Some((Form::Quoted, "443".to_owned())));
        assert_eq!(form("d").map(|f| f.1).as_deref(), Some("x"));
        assert_eq!(form("e"), Some((Form::Number, "1000".to_owned())));
        assert_eq!(form("f").map(|f| f.0), Some(Form::Quoted));
        let g = root.get("g").expect("g");
        assert_eq!(g.get("é").map(|node| node.form), Some(Form::Quoted));
        assert_eq!(g.get("h").map(|node| node.form), Some(Form::Plain));
    }

    #[test]
    fn json_is_yaml_and_garbage_is_told() {
        let root = read("{\n \"a\": {\"b\": [true, 4294901760, null]}\n}").expect("JSON");
        let list = root.get("a").and_then(|a| a.get("b")).expect("b").items();
        assert_eq!((list[0].text(), list[1].text()), (Some("true"), Some("4294901760")));
        let error = read("a: [1,\nb: }").expect_err("not YAML");
        assert!(error.line > 0, "{error:?}");
        assert!(read(&"[".repeat(100_000)).is_err());
    }

    #[test]
    fn streams_are_cut_at_markers() {
        let text = "---\na: 1\n---\nb: |\n  ---\n---   # c\nc: 1\n";
        let cut: Vec<(u32, usize)> = documents(text).iter().map(|(line, text)| (*line, text.len())).collect();
        assert_eq!(cut, [(0, 9), (2, 15), (5, 15)]);
        assert_eq!(documents(""), [(0, "")]);
    }
}
