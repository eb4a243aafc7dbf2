//! Topics with names in braces: `site/{device}/{topic}`.

/// Text with named places.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template(Vec<Part>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(Box<str>),
    Name(Box<str>),
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    #[error("a brace is not closed")]
    Open,
    #[error("`{{{name}}}` is none of {known}")]
    Unknown { name: String, known: String },
}

impl Template {
    /// Only `names` may stand in braces.
    pub fn parse(text: &str, names: &[&str]) -> Result<Self, TemplateError> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((before, behind)) = rest.split_once('{') {
            let (name, after) = behind.split_once('}').ok_or(TemplateError::Open)?;
            if !names.contains(&name) {
                let known: Vec<_> = names.iter().map(|name| format!("{{{name}}}")).collect();
                return Err(TemplateError::Unknown { name: name.to_owned(), known: known.join(", ") });
            }
            if !before.is_empty() {
                parts.push(Part::Text(before.into()));
            }
            parts.push(Part::Name(name.into()));
            rest = after;
        }
        if rest.contains('}') {
            return Err(TemplateError::Open);
        }
        if !rest.is_empty() {
            parts.push(Part::Text(rest.into()));
        }
        Ok(Self(parts))
    }

    /// The text; the error is a name that `value` has nothing for.
    pub fn fill<'a>(&self, value: impl Fn(&str) -> Option<&'a str>) -> Result<String, &str> {
        let mut text = String::new();
        for part in &self.0 {
            match part {
                Part::Text(part) => text.push_str(part),
                Part::Name(name) => text.push_str(value(name).ok_or(&**name)?),
            }
        }
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fills_what_is_known_and_names_what_is_not() {
        let template = Template::parse("site/{device}/{topic}", &["device", "topic"]).unwrap();
        let device = |name: &str| (name == "device").then_some("k1");
        assert_eq!(template.fill(device), Err("topic"));
        assert_eq!(template.fill(|_| Some("x")).unwrap(), "site/x/x");
        assert_eq!(Template::parse("a/{device", &["device"]), Err(TemplateError::Open));
        assert_eq!(Template::parse("a}", &["device"]), Err(TemplateError::Open));
        let error = Template::parse("{where}", &["device", "topic"]).unwrap_err();
        assert_eq!(error.to_string(), "`{where}` is none of {device}, {topic}");
    }
}
