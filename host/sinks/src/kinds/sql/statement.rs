//! Named parameters in a statement. Pure.

/// Which placeholders and which literals there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dialect {
    Sqlite,
    Postgres,
    MySql,
}

/// A statement with the database's own placeholders, and what each stands for, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Statement<P> {
    pub text: String,
    pub parameters: Vec<P>,
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum StatementError {
    #[error("must not be empty")]
    Empty,
    #[error("there is no parameter `:{name}`")]
    Unknown { name: String },
    #[error("the {what} that begins at byte {at} has no end")]
    Open { what: &'static str, at: usize },
}

impl StatementError {
    /// Names what there is in place of what is not.
    pub(super) fn with_known<'a>(&self, known: impl Iterator<Item = &'a String>) -> String {
        match self {
            Self::Unknown { .. } => {
                let known: Vec<_> = known.map(|name| format!(":{name}")).collect();
                format!("{self}; there are {}", known.join(", "))
            }
            _ => self.to_string(),
        }
    }
}

/// Puts placeholders where `:name` stands outside of literals, quoted names and comments; `::` is a cast.
pub(super) fn parse<P>(
    sql: &str,
    dialect: Dialect,
    parameter: impl Fn(&str) -> Option<P>,
) -> Result<Statement<P>, StatementError> {
    // A last semicolon is a habit, and to some databases a second statement.
    let sql = sql.trim().trim_end_matches(';').trim_end();
    if sql.is_empty() {
        return Err(StatementError::Empty);
    }
    let mut statement = Statement { text: String::with_capacity(sql.len()), parameters: Vec::new() };
    let mut at = 0;
    while let Some(next) = sql[at..].chars().next() {
        let length = match opaque(&sql[at..], preceding(sql, at), dialect) {
            Some(found) => found.map_err(|what| StatementError::Open { what, at })?,
            None => match name(&sql[at..], preceding(sql, at)) {
                Some(name) => {
                    let known = parameter(name);
                    let known = known.ok_or_else(|| StatementError::Unknown { name: name.to_owned() })?;
                    statement.parameters.push(known);
                    statement.text.push_str(&placeholder(dialect, statement.parameters.len()));
                    at += 1 + name.len();
                    continue;
                }
                None => next.len_utf8(),
            },
        };
        statement.text.push_str(&sql[at..at + length]);
        at += length;
    }
    Ok(statement)
}

fn placeholder(dialect: Dialect, number: usize) -> String {
    match dialect {
        Dialect::Postgres => format!("${number}"),
        Dialect::Sqlite => format!("?{number}"),
        Dialect::MySql => "?".to_owned(),
    }
}

fn preceding(sql: &str, at: usize) -> Option<char> {
    sql[..at].chars().next_back()
}

/// `:name` at the beginning of `text`.
fn name(text: &str, before: Option<char>) -> Option<&str> {
    let rest = text.strip_prefix(':')?;
    let end = rest.find(|c: char| !is_part_of_name(c)).unwrap_or(rest.len());
    let starts_well = rest.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    (starts_well && before != Some(':')).then(|| &rest[..end])
}

fn is_part_of_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

/// The length of what is to be copied as it is: literals, quoted names, comments. The error names it.
fn opaque(text: &str, before: Option<char>, dialect: Dialect) -> Option<Result<usize, &'static str>> {
    let first = text.chars().next()?;
    match first {
        '\'' => {
            let escapes = dialect == Dialect::MySql
                || dialect == Dialect::Postgres && matches!(before, Some('e' | 'E'));
            Some(quoted(text, first, escapes).ok_or("text"))
        }
        '"' => Some(quoted(text, first, dialect == Dialect::MySql).ok_or("quoted name")),
        '`' if dialect != Dialect::Postgres => Some(quoted(text, first, false).ok_or("quoted name")),
        '-' if text.starts_with("--") => Some(Ok(text.find('\n').unwrap_or(text.len()))),
        '#' if dialect == Dialect::MySql => Some(Ok(text.find('\n').unwrap_or(text.len()))),
        '/' if text.starts_with("/*") => Some(text.find("*/").map(|end| end + 2).ok_or("comment")),
        '$' if dialect == Dialect::Postgres && !before.is_some_and(is_part_of_name) => dollar_quoted(text),
        _ => None,
    }
}

/// A quote within is doubled, or escaped where that is the dialect's way.
fn quoted(text: &str, quote: char, escapes: bool) -> Option<usize> {
    let mut characters = text.char_indices().skip(1).peekable();
    while let Some((at, c)) = characters.next() {
        match c {
            '\\' if escapes => drop(characters.next()),
            c if c == quote => match characters.peek() {
                Some((_, again)) if *again == quote => drop(characters.next()),
                _ => return Some(at + 1),
            },
            _ => {}
        }
    }
    None
}

/// `$$ … $$` and `$tag$ … $tag$`.
fn dollar_quoted(text: &str) -> Option<Result<usize, &'static str>> {
    let tag = 1 + text[1..].find(|c| !is_part_of_name(c))?;
    if !text[tag..].starts_with('$') || text[1..].starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    let tag = &text[..=tag];
    let end = text[tag.len()..].find(tag).map(|end| end + 2 * tag.len());
    Some(end.ok_or("dollar-quoted text"))
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    fn check(dialect: Dialect, sql: &str, expected: &Expect) {
        let known = |name: &str| (name != "nothing").then(|| name.to_owned());
        match parse(sql, dialect, known) {
            Ok(statement) => {
                expected.assert_eq(&format!("{} {:?}", statement.text, statement.parameters));
            }
            Err(error) => expected.assert_eq(&format!("Err({error})")),
        }
    }

    #[test]
    fn names_become_the_databases_own_placeholders() {
        let sql = "INSERT INTO t VALUES (:id, :a_1,:id);";
        check(Dialect::Postgres, sql, &expect![[r#"INSERT INTO t VALUES ($1, $2,$3) ["id", "a_1", "id"]"#]]);
        check(Dialect::Sqlite, sql, &expect![[r#"INSERT INTO t VALUES (?1, ?2,?3) ["id", "a_1", "id"]"#]]);
        check(Dialect::MySql, sql, &expect![[r#"INSERT INTO t VALUES (?, ?,?) ["id", "a_1", "id"]"#]]);
    }

    #[test]
    fn what_is_quoted_or_a_comment_or_a_cast_stays_as_it_is() {
        check(
            Dialect::Postgres,
            "SELECT ':a''b :c', \":d\", :e::text, x[1:2], $$ :f $$, $t$ :g $$ $t$ -- :h\n, E'\\':i' /* :j */, :k",
            &expect![[r#"
                SELECT ':a''b :c', ":d", $1::text, x[1:2], $$ :f $$, $t$ :g $$ $t$ -- :h
                , E'\':i' /* :j */, $2 ["e", "k"]"#]],
        );
        check(
            Dialect::MySql,
            "SELECT 'a\\':b', `:c`, \":d\" # :e",
            &expect![[r#"SELECT 'a\':b', `:c`, ":d" # :e []"#]],
        );
        check(Dialect::Sqlite, "SELECT 'a\\', :b, 'ü:c'", &expect![[r#"SELECT 'a\', ?1, 'ü:c' ["b"]"#]]);
    }

    #[test]
    fn says_what_is_wrong() {
        check(Dialect::Sqlite, " ; ", &expect!["Err(must not be empty)"]);
        check(Dialect::Sqlite, "SELECT :nothing", &expect!["Err(there is no parameter `:nothing`)"]);
        check(Dialect::Sqlite, "SELECT 'a :b", &expect!["Err(the text that begins at byte 7 has no end)"]);
        check(Dialect::Sqlite, "SELECT /* :b", &expect!["Err(the comment that begins at byte 7 has no end)"]);
        check(
            Dialect::Postgres,
            "SELECT $a$ $b$",
            &expect!["Err(the dollar-quoted text that begins at byte 7 has no end)"],
        );
    }
}
