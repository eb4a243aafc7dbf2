//! What stands on each page.

use anyhow::Context;
use clap::Command;
use serde_json::Value;
use toml_edit::{DocumentMut, Item, Table};

use super::schema::{self, Setting};

/// One file of the reference.
#[derive(Clone, Debug)]
pub(crate) struct Page {
    pub file: String,
    pub title: String,
    /// A line for the index.
    pub about: String,
    pub text: String,
}

impl Page {
    fn new(file: impl Into<String>, title: String, about: &str, body: &str) -> Self {
        let first = about.lines().next().unwrap_or_default().to_owned();
        let text = format!("# {title}\n\n{about}\n\n{}\n", body.trim());
        Self { file: file.into(), title, about: first, text }
    }
}

pub(super) fn driver(name: &str, example: &str, schema: &Value) -> anyhow::Result<Page> {
    let example = placed("ingress", "driver", name, example)?;
    let body = format!(
        "An ingress of it in `sandbar.toml`:\n\n```toml\n{example}```\n\n## Settings\n\n{}",
        table(&schema::settings(schema), "")
    );
    Ok(Page::new(format!("driver-{name}.md"), format!("Driver `{name}`"), &schema::about(schema), &body))
}

pub(super) fn sink(name: &str, example: &str, schema: &Value) -> anyhow::Result<Page> {
    let example = placed("sink", "kind", name, example)?;
    let body = format!(
        "One of it in `sandbar.toml`:\n\n```toml\n{example}```\n\n## Settings\n\n{}\n\
         Every sink has the settings of [`offering`](configuration.md#sinkname) too.",
        table(&schema::settings(schema), "")
    );
    Ok(Page::new(format!("sink-{name}.md"), format!("Sink `{name}`"), &schema::about(schema), &body))
}

pub(super) fn configuration() -> Page {
    let schema = sandbar_control::config_schema();
    let settings = schema::settings(&schema);
    let mut body = String::new();
    for (part, prefix) in [
        ("host", "host."),
        ("api", "api."),
        ("telemetry", "telemetry."),
        ("ingress.NAME", "ingress.NAME."),
        ("sink.NAME", "sink.NAME."),
        ("module.NAME", "module.NAME."),
        ("route.NAME", "route.NAME."),
        ("devices", "devices."),
        ("compat.cloud_connector", "compat.cloud_connector."),
    ] {
        let top = part.split('.').next().unwrap_or(part);
        let named = |path: &str| settings.iter().find(|setting| setting.path == path);
        let about = named(part).or(named(top)).map_or("", |setting| &setting.about);
        let of_part: Vec<Setting> =
            settings.iter().filter(|setting| setting.path.starts_with(prefix)).cloned().collect();
        body.push_str(&format!("## `[{part}]`\n\n{about}\n\n{}\n", table(&of_part, prefix)));
    }
    let about = "Everything a host does can be declared in one TOML file. It is read again when it changes, or on \
                 SIGHUP; a file with a problem changes nothing.\n\n\
                 What the file declares is read-only in the API; what the API makes is kept in the data directory. \
                 Names have 1 to 63 characters `a-z 0-9 - _`. Where a list is expected, one value will do.";
    Page::new("configuration.md", "The file `sandbar.toml`".to_owned(), about, &body)
}

pub(super) fn commands(mut command: Command) -> Page {
    command.build();
    let mut body = String::new();
    help(&mut command, "sandbar", &mut body);
    Page::new(
        "commands.md",
        "The command `sandbar`".to_owned(),
        "Every command; `sandbar COMMAND --help` shows the same.",
        &body,
    )
}

fn help(command: &mut Command, path: &str, body: &mut String) {
    let text = command.render_help().to_string();
    let lines: Vec<&str> = text.trim_end().lines().map(str::trim_end).collect();
    body.push_str(&format!("## `{path}`\n\n```text\n{}\n```\n\n", lines.join("\n")));
    for inner in command.get_subcommands_mut() {
        let path = format!("{path} {}", inner.get_name());
        help(inner, &path, body);
    }
}

pub(super) fn index(pages: &[Page]) -> Page {
    let line = |page: &Page| format!("- [{}]({}): {}\n", page.title, page.file, page.about);
    let body: String = pages.iter().map(line).collect();
    Page::new("README.md", "Reference".to_owned(), "Made from the code, by `sandbar docs`.", &body)
}

/// The example under its header, inner tables too: `[[paths]]` becomes `[[ingress.NAME.paths]]`.
fn placed(part: &str, key: &str, name: &str, example: &str) -> anyhow::Result<String> {
    let text = format!("{key} = \"{name}\"\n{}", example.trim_start());
    let settings: DocumentMut = text.parse().with_context(|| format!("the example of {name}"))?;
    let mut names = Table::new();
    names.set_implicit(true);
    let mut table = settings.as_table().clone();
    table.set_implicit(false);
    names.insert("NAME", Item::Table(table));
    let mut document = DocumentMut::new();
    document.insert(part, Item::Table(names));
    Ok(document.to_string().trim_start().to_owned())
}

fn table(settings: &[Setting], prefix: &str) -> String {
    if settings.is_empty() {
        return "None.\n".to_owned();
    }
    let mut text = "| setting | value | default | |\n|---|---|---|---|\n".to_owned();
    for setting in settings {
        let default = match (&setting.default, setting.required) {
            (_, true) => "required".to_owned(),
            (Some(default), _) if default.len() <= 60 && default != "{}" => format!("`{default}`"),
            // Of an inner table each setting shows its own.
            _ => String::new(),
        };
        let path = setting.path.strip_prefix(prefix).unwrap_or(&setting.path);
        let cells = [format!("`{path}`"), setting.kind.clone(), default, setting.about.clone()];
        let row: Vec<String> = cells.iter().map(|cell| cell.replace('|', "\\|")).collect();
        text.push_str(&format!("| {} |\n", row.join(" | ")));
    }
    text
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    #[test]
    fn examples_stand_under_their_header() {
        let example = "\n# Where.\nlisten = \"127.0.0.1:0\"\n\n[[paths]]\npath = \"/a\"\n\n[signature]\nheader = \"X\"\n";
        expect![[r#"
            [ingress.NAME]
            driver = "webhook"
            # Where.
            listen = "127.0.0.1:0"

            [[ingress.NAME.paths]]
            path = "/a"

            [ingress.NAME.signature]
            header = "X"
        "#]]
        .assert_eq(&placed("ingress", "driver", "webhook", example).unwrap());
    }

    #[test]
    fn a_row_cannot_break_the_table() {
        let setting = Setting {
            path: "ingress.NAME.a".into(),
            kind: "text".into(),
            default: Some("\"x|y\"".into()),
            required: false,
            about: "a | b".into(),
        };
        let text = table(&[setting], "ingress.NAME.");
        assert_eq!(text.lines().nth(2), Some(r#"| `a` | text | `"x\|y"` | a \| b |"#));
    }
}
