//! Markup that cannot be broken by what it shows: names of elements and attributes are written in this program, every text
//! and every value is escaped on its way in, and there is no other way in.

use crate::diagnostic::printable;

/// A document under construction.
#[derive(Clone, Debug, Default)]
pub(super) struct Html {
    out: String,
}

impl Html {
    /// A document of today's HTML.
    pub(super) fn document() -> Self {
        Self { out: "<!DOCTYPE html>\n".to_owned() }
    }

    /// Text; control characters and invisible ones are shown as escapes.
    pub(super) fn text(&mut self, text: &str) -> &mut Self {
        escape(&mut self.out, text);
        self
    }

    /// An element and what is inside it.
    pub(super) fn tag(
        &mut self,
        name: &'static str,
        attributes: &[(&'static str, &str)],
        inside: impl FnOnce(&mut Self),
    ) -> &mut Self {
        self.open(name, attributes);
        inside(self);
        self.out.push_str("</");
        self.out.push_str(name);
        // a line end between blocks keeps the source readable; between words it would show
        self.out.push_str(if is_block(name) { ">\n" } else { ">" });
        self
    }

    /// An element that holds text alone.
    pub(super) fn leaf(&mut self, name: &'static str, attributes: &[(&'static str, &str)], text: &str) -> &mut Self {
        self.tag(name, attributes, |html| {
            html.text(text);
        })
    }

    /// An element without inside.
    pub(super) fn void(&mut self, name: &'static str, attributes: &[(&'static str, &str)]) -> &mut Self {
        self.open(name, attributes);
        self.out.push('\n');
        self
    }

    /// A style sheet of this program. Nothing that was read gets into one.
    pub(super) fn style(&mut self, sheet: &'static str) {
        self.out.push_str("<style>");
        self.out.push_str(sheet);
        self.out.push_str("</style>\n");
    }

    /// A time for people and machines.
    pub(super) fn time(&mut self, stamp: &str) -> &mut Self {
        let shown = stamp.replacen('T', " ", 1).replace('Z', " UTC");
        self.leaf("time", &[("datetime", stamp)], &shown)
    }

    /// The document's text.
    pub(super) fn finish(self) -> String {
        self.out
    }

    fn open(&mut self, name: &'static str, attributes: &[(&'static str, &str)]) {
        self.out.push('<');
        self.out.push_str(name);
        for (key, value) in attributes {
            self.out.push(' ');
            self.out.push_str(key);
            self.out.push_str("=\"");
            escape(&mut self.out, value);
            self.out.push('"');
        }
        self.out.push('>');
    }
}

fn escape(out: &mut String, text: &str) {
    for c in printable(text).chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
}

fn is_block(name: &str) -> bool {
    !matches!(name, "a" | "span" | "code" | "strong" | "time" | "text" | "tspan" | "title" | "summary")
}
