//! Where the documents of a file are: YAML streams and JSON, and the same inside shell here-documents and Markdown fences.

use crate::calico::yaml;

/// One document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Document {
    /// Lines before its first.
    pub(super) offset: u32,
    /// Its text; indentation that all of its lines share is gone.
    pub(super) text: String,
    /// Characters taken from the start of each line.
    pub(super) indent: u32,
}

/// The documents of `text`. Run-books and scripts give what their here-documents and `yaml` or `json` fences hold.
pub(super) fn documents(text: &str) -> Vec<Document> {
    if is_yaml(text) {
        return stream(text, 0);
    }
    let fragments = fragments(text);
    if fragments.is_empty() { stream(text, 0) } else { fragments }
}

/// Whether the first line that says anything could start a resource.
fn is_yaml(text: &str) -> bool {
    let Some(first) = text.lines().map(str::trim_start).find(|line| !line.is_empty() && !line.starts_with('#')) else {
        return true;
    };
    let key = first.trim_start_matches(['-', ' ', '{', '[', '"']);
    first.starts_with("---")
        || first.starts_with("%YAML")
        || first.starts_with(['{', '['])
        || ["apiVersion", "kind", "metadata", "items", "spec"].iter().any(|word| {
            key.strip_prefix(word).is_some_and(|rest| rest.trim_start_matches('"').trim_start().starts_with(':'))
        })
}

fn stream(text: &str, offset: u32) -> Vec<Document> {
    let documents = yaml::documents(text).into_iter().map(|(before, text)| {
        let (text, indent) = dedented(text);
        Document { offset: offset.saturating_add(before), text: text.into_owned(), indent }
    });
    documents.collect()
}

/// The text without the indentation that all lines share; lines of comments alone do not count.
fn dedented(text: &str) -> (std::borrow::Cow<'_, str>, u32) {
    let says = |line: &&str| !line.trim().is_empty() && !line.trim_start().starts_with('#') && !line.starts_with("---");
    let blanks = |line: &str| line.bytes().take_while(|byte| *byte == b' ').count();
    let indent = text.lines().filter(says).map(blanks).min().unwrap_or(0);
    if indent == 0 {
        return (text.into(), 0);
    }
    let cut = |line: &str| line.get(indent.min(blanks(line))..).unwrap_or_default().to_owned();
    let text: String = text.split_inclusive('\n').map(cut).collect();
    (text.into(), u32::try_from(indent).unwrap_or(0))
}

/// A fragment that has begun.
struct Open {
    /// What ends it.
    end: End,
    /// Lines before its first.
    from: u32,
    text: String,
}

/// What ends a fragment.
enum End {
    /// A line that holds this word alone.
    Word(String),
    /// The closing fence.
    Fence(&'static str),
}

fn fragments(text: &str) -> Vec<Document> {
    let mut found = Vec::new();
    // a fence, and a here-document in it or by itself
    let mut open: Vec<Open> = Vec::new();
    for (number, line) in (1u32..).zip(text.split_inclusive('\n')) {
        let trimmed = line.trim();
        let begin = |end| Open { end, from: number, text: String::new() };
        let closed = match open.last().map(|open| &open.end) {
            Some(End::Word(word)) => trimmed == word,
            Some(End::Fence(fence)) => trimmed.starts_with(fence),
            None => false,
        };
        let within_word = matches!(open.last(), Some(Open { end: End::Word(_), .. }));
        if closed {
            if let Some(done) = open.pop() {
                keep(&mut found, done.from, &done.text);
            }
        } else if !within_word && let Some(word) = here_document(line) {
            // what a fence holds beside the here-document are commands
            open.iter_mut().for_each(|fence| fence.text.clear());
            open.push(begin(End::Word(word)));
        } else if open.is_empty() {
            open.extend(fence(trimmed).map(|fence| begin(End::Fence(fence))));
        } else if let Some(open) = open.last_mut() {
            open.text.push_str(line);
        }
    }
    // a here-document that nothing ends runs to the end of the file
    if let Some(last) = open.pop() {
        keep(&mut found, last.from, &last.text);
    }
    found
}

/// Keeps what may hold resources: scripts have other here-documents too, and run-books other fences.
fn keep(found: &mut Vec<Document>, from: u32, text: &str) {
    if text.contains("kind") && text.contains("apiVersion") && is_yaml(text) {
        found.extend(stream(text, from));
    }
}

/// The word that ends the here-document which `line` starts: `kubectl apply -f - <<EOF`, `<<-'EOF'`.
fn here_document(line: &str) -> Option<String> {
    let (_, rest) = line.split_once("<<")?;
    let rest = rest.strip_prefix('-').unwrap_or(rest).trim_start();
    if rest.starts_with('<') {
        return None;
    }
    let word: String = rest
        .trim_start_matches(['\'', '"', '\\'])
        .chars()
        .take_while(|c| c.is_ascii_alphanumeric() || *c == '_' || *c == '-' || *c == '.')
        .collect();
    (!word.is_empty() && !word.starts_with(|c: char| c.is_ascii_digit())).then_some(word)
}

fn fence(line: &str) -> Option<&'static str> {
    ["```", "~~~"].into_iter().find(|mark| line.starts_with(mark))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Vec<(u32, u32, String)> {
        documents(text).into_iter().map(|d| (d.offset, d.indent, d.text)).collect()
    }

    #[test]
    fn plain_streams_stay_whole() {
        let text = "# a comment\n---\nkind: Tier\n---\n{\"kind\": \"Tier\"}\n";
        let starts: Vec<u32> = found(text).iter().map(|d| d.0).collect();
        assert_eq!(starts, [0, 1, 3]);
        assert_eq!(found("").len(), 1);
        // a script inside a resource is the resource's business
        assert_eq!(
            found("kind: ConfigMap\napiVersion: v1\ndata:\n  x: |\n    cat <<EOF\n    kind: Tier\n    EOF\n").len(),
            1
        );
    }

    #[test]
    fn here_documents_are_read_where_they_stand() {
        let text = "#!/bin/sh\nset -e\nkubectl apply -f - <<'EOF'\n apiVersion: a/v3\n### note\n kind: Tier\n---\nEOF\ncat <<X\nno\nX\n";
        let all = found(text);
        assert_eq!(all.first(), Some(&(3, 1, "apiVersion: a/v3\n### note\nkind: Tier\n".to_owned())));
        assert_eq!(all.len(), 2);
        assert_eq!(found("grep <<< \"kind: apiVersion:\"\n").len(), 1, "a here-string starts nothing");
    }

    #[test]
    fn run_books_give_their_fences() {
        let text = "# Lab\n\nDo:\n```yaml\nkubectl apply -f -<<EOF\napiVersion: a/v3\nkind: Tier\nEOF\n\n```\ntext\n\n   ```json\n   {\"kind\": 1,\n   \"apiVersion\": 2}\n   ```\n```go\nkind apiVersion\n```\n";
        let all = found(text);
        assert_eq!(all.iter().map(|d| (d.0, d.1)).collect::<Vec<_>>(), [(5, 0), (13, 3)]);
        assert!(all.get(1).is_some_and(|d| d.2.starts_with("{\"kind\"")));
    }

    #[test]
    fn hostile_text_ends() {
        assert_eq!(documents(&"<<".repeat(10_000)).len(), 1);
        assert!(documents(&"cat <<A\nkind: apiVersion:\n".repeat(1_000)).len() < 1_002);
    }
}
