//! A source file, seen as text and as code alone.

/// A file of the project.
#[derive(Debug)]
pub(super) struct Source {
    /// Relative to the workspace, with `/`.
    pub(super) path: String,
    pub(super) text: String,
    /// The text with comments and the contents of literals blanked: same lines, same columns. Rust only.
    pub(super) code: String,
}

impl Source {
    pub(super) fn new(path: &str, text: String) -> Self {
        let code = if extension(path) == "rs" {
            code_alone(&text)
        } else {
            String::new()
        };
        Self {
            path: path.to_owned(),
            text,
            code,
        }
    }

    pub(super) fn is_rust(&self) -> bool {
        self.extension() == "rs"
    }

    pub(super) fn extension(&self) -> &str {
        extension(&self.path)
    }

    /// Whether the file is below `folder` or is `folder`.
    pub(super) fn is_in(&self, folder: &str) -> bool {
        self.path
            .strip_prefix(folder)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }

    /// Code with the numbers of its lines.
    pub(super) fn code_lines(&self) -> impl Iterator<Item = (usize, &str)> {
        (1..).zip(self.code.lines())
    }

    /// Text with the numbers of its lines.
    pub(super) fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        (1..).zip(self.text.lines())
    }

    /// Attributes that begin by `name` (`#[name…]` or `#![name…]`): their line and their text up to the `]`.
    pub(super) fn attributes<'a>(
        &'a self,
        name: &'a str,
    ) -> impl Iterator<Item = (usize, &'a str)> {
        self.code.match_indices('[').filter_map(move |(at, _)| {
            let before = self.code.get(..at)?;
            if !before.ends_with('#') && !before.ends_with("#!") {
                return None;
            }
            let inside = self.code.get(at + 1..)?;
            let rest = inside.strip_prefix(name)?;
            if rest.starts_with(is_word) {
                return None;
            }
            let mut depth = 1_u32;
            let end = inside.find(|c| {
                match c {
                    '[' => depth += 1,
                    ']' => depth -= 1,
                    _ => {}
                }
                depth == 0
            })?;
            let line = 1 + before.matches('\n').count();
            Some((line, self.text.get(at + 1..at + 1 + end)?))
        })
    }
}

fn extension(path: &str) -> &str {
    path.rsplit_once('.').map_or("", |(_, extension)| extension)
}

pub(super) fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Whether `line` has `word` as a whole word, followed by `after`.
pub(super) fn has_word(line: &str, word: &str, after: &str) -> bool {
    line.match_indices(word).any(|(at, _)| {
        let before = line.get(..at).unwrap_or_default();
        let rest = line.get(at + word.len()..).unwrap_or_default();
        !before.ends_with(is_word)
            && !rest.starts_with(is_word)
            && rest.trim_start().starts_with(after)
    })
}

/// Blanks comments and what is inside literals; keeps line breaks and the length of everything in bytes.
fn code_alone(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let previous_is_word = code.ends_with(is_word);
        let token = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            block_comment(rest)
        } else if let Some(length) = raw_string(rest).filter(|_| !previous_is_word) {
            length
        } else if first == '"' {
            quoted(rest, '"')
        } else if first == '\'' && is_character(rest) {
            quoted(rest, '\'')
        } else {
            code.push(first);
            rest = &rest[first.len_utf8()..];
            continue;
        };
        let (blanked, after) = rest.split_at(token);
        code.extend(
            blanked
                .bytes()
                .map(|byte| if byte == b'\n' { '\n' } else { ' ' }),
        );
        rest = after;
    }
    code
}

/// Length of a block comment, which may hold others.
fn block_comment(text: &str) -> usize {
    let mut depth = 0_u32;
    let mut at = 0;
    while let Some(rest) = text.get(at..).filter(|rest| !rest.is_empty()) {
        let step = if rest.starts_with("/*") {
            depth += 1;
            2
        } else if rest.starts_with("*/") {
            depth -= 1;
            2
        } else {
            rest.chars().next().map_or(1, char::len_utf8)
        };
        at += step;
        if depth == 0 {
            return at;
        }
    }
    text.len()
}

/// Length of a raw string, where one begins here.
fn raw_string(text: &str) -> Option<usize> {
    let after = ["br", "cr", "r"]
        .iter()
        .find_map(|prefix| text.strip_prefix(prefix))?;
    let hashes = after.len() - after.trim_start_matches('#').len();
    let body = after.get(hashes..)?.strip_prefix('"')?;
    let end = format!("\"{}", "#".repeat(hashes));
    let start = text.len() - body.len();
    Some(
        body.find(&end)
            .map_or(text.len(), |at| start + at + end.len()),
    )
}

/// Length of a literal between two `quote`s.
fn quoted(text: &str, quote: char) -> usize {
    let mut escaped = true; // the opening quote
    for (at, c) in text.char_indices() {
        if escaped {
            escaped = false;
        } else if c == '\\' {
            escaped = true;
        } else if c == quote {
            return at + c.len_utf8();
        }
    }
    text.len()
}

/// Whether the `'` here opens a character rather than a lifetime.
fn is_character(text: &str) -> bool {
    let mut rest = text.chars().skip(1);
    let inside = rest.next();
    inside == Some('\\') || rest.next() == Some('\'')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_literals_are_blanked() {
        for (text, code) in [
            ("a // b\nc", "a     \nc"),
            ("a /* b /* c */ d */ e", "a                   e"),
            (r#"f("x \" y", z)"#, "f(        , z)"),
            (r##"f(r#"x " y"#, z)"##, "f(          , z)"),
            (r"f('\'', 'a', b)", "f(    ,    , b)"),
            ("fn f<'a>(x: &'a str)", "fn f<'a>(x: &'a str)"),
            ("a \"é\" b", "a      b"),
            ("bar\"x\"", "bar   "),
        ] {
            assert_eq!(code_alone(text), code, "{text}");
        }
    }

    #[test]
    fn words_are_whole() {
        assert!(has_word("use aya::maps;", "aya", "::"));
        assert!(!has_word("use aya_ebpf::maps;", "aya", "::"));
        assert!(!has_word("let aya = 1;", "aya", "::"));
        assert!(has_word("    unsafe {", "unsafe", ""));
        assert!(!has_word("#[expect(unsafe_code)]", "unsafe", ""));
    }

    #[test]
    fn attributes_may_span_lines() {
        let text = "\n#[expect(\n    dead_code,\n    reason = \"a [b]\"\n)]\n#[expected]\n";
        let source = Source::new("a.rs", text.to_owned());
        let found: Vec<_> = source.attributes("expect").collect();
        assert_eq!(
            found,
            [(2, "expect(\n    dead_code,\n    reason = \"a [b]\"\n)")]
        );
    }
}
