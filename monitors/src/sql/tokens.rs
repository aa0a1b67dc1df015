//! Cuts a statement into tokens, as far as the guard and the binding of parameters need it.
//!
//! It must see string literals, quoted names and comments exactly as the database does: what it takes for a literal
//! and the database for code would slip past the guard. Where the two could differ, the statement is refused.

use super::connect::Dialect;

/// A statement that is not sent; the text says why, and what to write instead.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(super) struct Refusal(pub(super) String);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A keyword, an unquoted name or a number.
    Word,
    /// A name in quotes; the text is what stands between them.
    QuotedName,
    /// A string literal.
    Literal,
    /// `:tick` or `:since`; the text is the name.
    Parameter,
    /// Any other character.
    Sign,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Token<'a> {
    pub(super) kind: Kind,
    pub(super) text: &'a str,
    /// Where it begins and ends in the statement, quotes included, in bytes.
    pub(super) start: usize,
    pub(super) end: usize,
}

impl Token<'_> {
    pub(super) fn is_sign(&self, sign: &str) -> bool {
        self.kind == Kind::Sign && self.text == sign
    }
}

/// The parameters that a statement may use.
pub(super) const PARAMETERS: [&str; 2] = ["tick", "since"];

/// All tokens of a statement; white space and comments are left out.
///
/// # Errors
/// Literals and comments that never end, placeholders and parameters that nobody would fill, and spellings that hide
/// a name.
pub(super) fn tokens(sql: &str, dialect: Dialect) -> Result<Vec<Token<'_>>, Refusal> {
    if sql.contains('\0') {
        return Err(Refusal("the statement contains a NUL character".into()));
    }
    let mut reader = Reader { sql, dialect, at: 0, tokens: Vec::new(), brackets: 0, escapes: false };
    while reader.at < sql.len() {
        reader.step()?;
    }
    Ok(reader.tokens)
}

struct Reader<'a> {
    sql: &'a str,
    dialect: Dialect,
    at: usize,
    tokens: Vec<Token<'a>>,
    /// Depth of `[`: inside, PostgreSQL writes slices such as `a[1:n]`.
    brackets: usize,
    /// Whether the last literal knew backslashes; PostgreSQL lets a literal go on in the next line with the same rule.
    escapes: bool,
}

impl<'a> Reader<'a> {
    fn rest(&self) -> &'a str {
        &self.sql[self.at..]
    }

    fn push(&mut self, kind: Kind, text: &'a str, length: usize) {
        self.tokens.push(Token { kind, text, start: self.at, end: self.at + length });
        self.at += length;
    }

    fn step(&mut self) -> Result<(), Refusal> {
        let rest = self.rest();
        let Some(first) = rest.chars().next() else { return Ok(()) };
        match (first, self.dialect) {
            _ if first.is_ascii_whitespace() => self.at += 1,
            _ if self.is_line_comment() => self.skip_line(),
            ('/', _) if rest.starts_with("/*") => self.skip_block()?,
            ('\'', _) => self.literal('\'')?,
            ('"', Dialect::Mysql) => self.literal('"')?,
            ('"', _) => self.quoted_name('"')?,
            ('`', Dialect::Mysql | Dialect::Sqlite) => self.quoted_name('`')?,
            ('[', Dialect::Sqlite) => self.quoted_name(']')?,
            ('$', Dialect::Postgres) => self.dollar()?,
            ('?', Dialect::Mysql | Dialect::Sqlite) | ('@' | '$' | '#', Dialect::Sqlite) => {
                return Err(placeholder(&first.to_string()));
            }
            (':', _) => self.colon()?,
            _ if first.is_ascii_digit() => {
                let length = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
                self.push(Kind::Word, &rest[..length], length);
            }
            _ if is_name_part(first) => self.word()?,
            _ => {
                match first {
                    '[' => self.brackets += 1,
                    ']' => self.brackets = self.brackets.saturating_sub(1),
                    _ => {}
                }
                self.push(Kind::Sign, &rest[..first.len_utf8()], first.len_utf8());
            }
        }
        Ok(())
    }

    /// MySQL begins a comment with `--` only before white space: `1--1` is a difference there.
    fn is_line_comment(&self) -> bool {
        let rest = self.rest();
        match self.dialect {
            Dialect::Mysql => {
                rest.starts_with('#')
                    || rest.strip_prefix("--").is_some_and(|after| {
                        after.chars().next().is_none_or(|next| next.is_ascii_whitespace() || next.is_ascii_control())
                    })
            }
            Dialect::Postgres | Dialect::Sqlite => rest.starts_with("--"),
        }
    }

    fn skip_line(&mut self) {
        let ends: &[char] = if self.dialect == Dialect::Postgres { &['\n', '\r'] } else { &['\n'] };
        self.at += self.rest().find(ends).unwrap_or(self.rest().len());
    }

    fn skip_block(&mut self) -> Result<(), Refusal> {
        let rest = self.rest();
        if self.dialect == Dialect::Mysql && ["/*!", "/*M!", "/*+"].iter().any(|open| rest.starts_with(open)) {
            return Err(Refusal(
                "comments that begin with `/*!`, `/*M!` or `/*+` are run by the server and are refused".into(),
            ));
        }
        let mut depth = 1;
        let mut at = 2;
        while depth > 0 {
            let inner = &rest[at..];
            let Some(close) = inner.find("*/") else {
                return Err(Refusal("a comment `/*` is never closed".into()));
            };
            match inner[..close].find("/*") {
                Some(open) if self.dialect == Dialect::Postgres => {
                    depth += 1;
                    at += open + 2;
                }
                _ => {
                    depth -= 1;
                    at += close + 2;
                }
            }
        }
        self.at += at;
        Ok(())
    }

    fn literal(&mut self, quote: char) -> Result<(), Refusal> {
        self.escapes = match (self.dialect, self.tokens.last()) {
            (Dialect::Mysql, _) => true,
            (Dialect::Postgres, Some(before)) if before.kind == Kind::Literal => self.escapes,
            (Dialect::Postgres, Some(before)) => before.end == self.at && before.text.eq_ignore_ascii_case("e"),
            _ => false,
        };
        let length = self.closed(quote, self.escapes)?;
        self.push(Kind::Literal, &self.rest()[1..length - 1], length);
        Ok(())
    }

    fn quoted_name(&mut self, close: char) -> Result<(), Refusal> {
        let length = self.closed(close, false)?;
        self.push(Kind::QuotedName, &self.rest()[1..length - 1], length);
        Ok(())
    }

    /// The length of what stands in quotes here; a doubled quote stands for itself, except `]`.
    fn closed(&self, close: char, escapes: bool) -> Result<usize, Refusal> {
        let mut chars = self.rest().char_indices().skip(1).peekable();
        while let Some((at, char)) = chars.next() {
            if escapes && char == '\\' {
                chars.next();
            } else if char == close && (close == ']' || chars.next_if(|(_, next)| *next == close).is_none()) {
                return Ok(at + close.len_utf8());
            }
        }
        Err(Refusal(format!("a quote `{close}` is missing: what begins at character {} never ends", self.at + 1)))
    }

    fn dollar(&mut self) -> Result<(), Refusal> {
        let rest = self.rest();
        let tag = 1 + rest[1..].find(|c: char| !is_name_part(c) || c == '$').unwrap_or(rest.len() - 1);
        let opens = rest[tag..].starts_with('$') && !rest[1..].starts_with(|c: char| c.is_ascii_digit());
        if !opens {
            return Err(placeholder("$"));
        }
        let quote = &rest[..=tag];
        let Some(close) = rest[quote.len()..].find(quote) else {
            return Err(Refusal(format!("a quote `{quote}` is missing: what begins with it never ends")));
        };
        let inner = &rest[quote.len()..quote.len() + close];
        self.escapes = false;
        self.push(Kind::Literal, inner, close + 2 * quote.len());
        Ok(())
    }

    fn colon(&mut self) -> Result<(), Refusal> {
        let rest = self.rest();
        if rest.starts_with("::") {
            self.push(Kind::Sign, &rest[..2], 2);
            return Ok(());
        }
        let name = &rest[1..];
        let name = &name[..name.find(|c: char| !is_name_part(c)).unwrap_or(name.len())];
        if PARAMETERS.contains(&name) {
            self.push(Kind::Parameter, name, 1 + name.len());
        } else if name.is_empty() || (self.brackets > 0 && self.dialect == Dialect::Postgres) {
            self.push(Kind::Sign, &rest[..1], 1);
        } else {
            return Err(Refusal(format!("the statement uses `:{name}`; there are `:tick` and `:since`")));
        }
        Ok(())
    }

    fn word(&mut self) -> Result<(), Refusal> {
        let rest = self.rest();
        let length = rest.find(|c: char| !is_name_part(c)).unwrap_or(rest.len());
        let word = &rest[..length];
        if self.dialect == Dialect::Postgres && word.eq_ignore_ascii_case("u") && rest[length..].starts_with("&\"") {
            return Err(Refusal("names written as U&\"...\" are refused: write the name itself".into()));
        }
        self.push(Kind::Word, word, length);
        Ok(())
    }
}

fn is_name_part(char: char) -> bool {
    char.is_ascii_alphanumeric() || char == '_' || char == '$' || !char.is_ascii()
}

fn placeholder(sign: &str) -> Refusal {
    Refusal(format!("the statement uses the placeholder `{sign}`, which nothing fills; there are `:tick` and `:since`"))
}

#[cfg(test)]
mod tests {
    use super::{Dialect, Kind, tokens};

    const ALL: [Dialect; 3] = [Dialect::Sqlite, Dialect::Postgres, Dialect::Mysql];

    fn shown(sql: &str, dialect: Dialect) -> String {
        let tokens = match tokens(sql, dialect) {
            Ok(tokens) => tokens,
            Err(refusal) => return refusal.to_string(),
        };
        let one = |kind, text: &str| match kind {
            Kind::Word | Kind::Sign => text.to_owned(),
            Kind::QuotedName => format!("name<{text}>"),
            Kind::Literal => format!("text<{text}>"),
            Kind::Parameter => format!("param<{text}>"),
        };
        tokens.iter().map(|token| one(token.kind, token.text)).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn parameters_count_only_where_they_are_code() {
        for dialect in ALL {
            assert_eq!(shown("a > :since -- :tick\n", dialect), "a > param<since>");
            assert_eq!(shown("':tick' /* :tick */ 'it''s :since'", dialect), "text<:tick> text<it''s :since>");
            assert!(shown(":tock", dialect).contains("`:tock`"));
            assert_eq!(shown("a[1::since]", Dialect::Postgres), "a [ 1 :: since ]");
        }
        assert_eq!(shown("\":tick\"", Dialect::Postgres), "name<:tick>");
        assert_eq!(shown("x::tick, :tick::date", Dialect::Postgres), "x :: tick , param<tick> :: date");
        assert_eq!(shown("$a$ :tick $a$ a[1:n]", Dialect::Postgres), "text< :tick > a [ 1 : n ]");
        assert_eq!(shown("[:tick] `:since`", Dialect::Sqlite), "name<:tick> name<:since>");
        assert_eq!(shown(r#"":tick" # :since"#, Dialect::Mysql), "text<:tick>");
    }

    #[test]
    fn literals_end_where_the_database_ends_them() {
        for dialect in [Dialect::Sqlite, Dialect::Postgres] {
            assert_eq!(shown(r"'\' x", dialect), r"text<\> x");
        }
        assert_eq!(shown(r"'\' x' y", Dialect::Mysql), r"text<\' x> y");
        assert_eq!(shown(r"E'\' x' y", Dialect::Postgres), r"E text<\' x> y");
        assert_eq!(shown("e'a'\n'\\' x' y", Dialect::Postgres), "e text<a> text<\\' x> y");
        assert_eq!(shown("/* a /* b */ c */ d", Dialect::Postgres), "d");
        assert_eq!(shown("/* a /* b */ c", Dialect::Sqlite), "c");
        assert_eq!(shown("1--1", Dialect::Mysql), "1 - - 1");
        assert_eq!(shown("1--1", Dialect::Sqlite), "1");
        assert_eq!(shown("-- a\rb", Dialect::Postgres), "b");
    }

    #[test]
    fn what_would_be_read_in_two_ways_is_refused() {
        for dialect in ALL {
            for sql in ["select 'x", "select /* x", "select \"x", "select \0"] {
                assert!(tokens(sql, dialect).is_err(), "{dialect:?}: {sql}");
            }
        }
        for (sql, dialect) in [
            ("select ?", Dialect::Sqlite),
            ("select $x", Dialect::Sqlite),
            ("select @x", Dialect::Sqlite),
            ("select :1", Dialect::Sqlite),
            ("select ?", Dialect::Mysql),
            ("select /*!50000 1 */ 1", Dialect::Mysql),
            ("select /*+ max_execution_time(0) */ 1", Dialect::Mysql),
            ("select $1", Dialect::Postgres),
            ("select $a$ x", Dialect::Postgres),
            ("select U&\"pg\\005fread_file\"('x')", Dialect::Postgres),
        ] {
            assert!(tokens(sql, dialect).is_err(), "{dialect:?}: {sql}");
        }
    }
}
