//! What lists print: a table, JSON a line, or a template a line, as the docker CLI has it.

use crate::error::Error;
use crate::template::{Template, TemplateError};
use serde_json::{Map, Value};

/// A list's rows, and how it is shown where nothing else is asked.
#[derive(Clone, Debug)]
pub(crate) struct List {
    /// Every column, also those that only templates show: name and heading.
    pub(crate) columns: &'static [(&'static str, &'static str)],
    /// The columns of the table.
    pub(crate) table: &'static [&'static str],
    /// The column that `--quiet` shows.
    pub(crate) quiet: &'static str,
    /// The cells of each row, by the column's name.
    pub(crate) rows: Vec<Map<String, Value>>,
}

/// How a list is to be shown.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct ListArgs {
    /// Format the output: table, table TEMPLATE, json, or a Go template
    #[arg(long, value_name = "FORMAT")]
    pub(crate) format: Option<String>,
    /// Only display IDs
    #[arg(short, long)]
    pub(crate) quiet: bool,
}

impl List {
    /// The list as text.
    ///
    /// # Errors
    /// The template cannot be read, or asks for a column that is not there.
    pub(crate) fn render(&self, args: &ListArgs) -> Result<String, Error> {
        let format = args
            .format
            .as_deref()
            .filter(|format| !format.is_empty())
            .unwrap_or("table");
        let format = format.replace("\\t", "\t").replace("\\n", "\n");
        if args.quiet && args.format.as_deref().is_none_or(|format| format == "table") {
            return self.each(&Template::parse(&format!("{{{{.{}}}}}", self.quiet))?);
        }
        match format.as_str() {
            "json" => self.each(&Template::parse("{{json .}}")?),
            "table" => {
                let cells: Vec<_> = self.table.iter().map(|name| format!("{{{{.{name}}}}}")).collect();
                self.as_table(&cells.join("\t"))
            }
            template => match template.strip_prefix("table ") {
                Some(template) => self.as_table(template.trim_start()),
                None => self.each(&self.checked(template)?),
            },
        }
    }

    fn each(&self, template: &Template) -> Result<String, Error> {
        let mut text = String::new();
        for row in &self.rows {
            text.push_str(&template.fill(&Value::Object(row.clone()))?);
            text.push('\n');
        }
        Ok(text)
    }

    /// A template that asks for columns that there are, tried on the headings.
    fn checked(&self, text: &str) -> Result<Template, Error> {
        let template = Template::parse(text)?;
        for name in fields(text) {
            if !self.columns.iter().any(|(column, _)| *column == name) {
                let known: Vec<_> = self.columns.iter().map(|(column, _)| *column).collect();
                let text = format!("there is no .{name}, expected one of .{}", known.join(", ."));
                return Err(TemplateError::Value(text).into());
            }
        }
        Ok(template)
    }

    fn as_table(&self, text: &str) -> Result<String, Error> {
        let template = self.checked(text)?;
        let headings: Map<String, Value> = self
            .columns
            .iter()
            .map(|(name, heading)| ((*name).to_owned(), (*heading).into()))
            .collect();
        let mut lines = vec![template.fill(&Value::Object(headings))?];
        for row in &self.rows {
            lines.push(template.fill(&Value::Object(row.clone()))?);
        }
        Ok(align(&lines))
    }
}

/// The names after a dot at the start of a word inside actions. Of `.Labels.x` that is `Labels`.
fn fields(text: &str) -> Vec<String> {
    let mut names = Vec::new();
    for action in text.split("{{").skip(1) {
        let action = action.split("}}").next().unwrap_or_default();
        let unquoted = action.split('"').step_by(2);
        // A block moves the dot, so what is asked inside is no column.
        if action.trim_start().starts_with("range") || action.trim_start().starts_with("with") {
            return names;
        }
        for word in unquoted.flat_map(|part| part.split([' ', '(', ')', '|'])) {
            if let Some(name) = word.strip_prefix('.') {
                let name = name.split('.').next().unwrap_or_default();
                if !name.is_empty() {
                    names.push(name.to_owned());
                }
            }
        }
    }
    names
}

/// Lines whose cells, apart by tabs, stand below each other: at least ten wide, three of which are space.
pub(crate) fn align(lines: &[String]) -> String {
    const LEAST: usize = 10;
    const SPACE: usize = 3;
    let rows: Vec<Vec<&str>> = lines.iter().map(|line| line.split('\t').collect()).collect();
    let columns = rows.iter().map(Vec::len).max().unwrap_or_default();
    let widths: Vec<usize> = (0..columns)
        .map(|column| {
            let cells = rows.iter().filter_map(|row| row.get(column));
            cells
                .map(|cell| cell.chars().count() + SPACE)
                .max()
                .unwrap_or_default()
                .max(LEAST)
        })
        .collect();
    let mut text = String::new();
    for row in &rows {
        for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
            text.push_str(cell);
            if column + 1 < row.len() {
                text.extend(std::iter::repeat_n(' ', width - cell.chars().count()));
            }
        }
        text.push('\n');
    }
    text
}

/// A row of these cells.
pub(crate) fn row<const N: usize>(cells: [(&str, Value); N]) -> Map<String, Value> {
    cells
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list() -> List {
        List {
            columns: &[("ID", "ID"), ("Name", "NAME"), ("Labels", "LABELS")],
            table: &["ID", "Name"],
            quiet: "ID",
            rows: vec![
                row([
                    ("ID", "1".into()),
                    ("Name", "a-long-name".into()),
                    ("Labels", "x=<1>".into()),
                ]),
                row([("ID", "2".into()), ("Name", "".into()), ("Labels", "".into())]),
            ],
        }
    }

    fn rendered(format: Option<&str>, quiet: bool) -> Result<String, String> {
        let format = format.map(str::to_owned);
        list()
            .render(&ListArgs { format, quiet })
            .map_err(|error| error.to_string())
    }

    #[test]
    fn formats_are_dockers() {
        let cases = [
            (None, false, "ID        NAME\n1         a-long-name\n2         \n"),
            (
                Some("table"),
                false,
                "ID        NAME\n1         a-long-name\n2         \n",
            ),
            (None, true, "1\n2\n"),
            (
                Some("json"),
                false,
                "{\"ID\":\"1\",\"Labels\":\"x=\\u003c1\\u003e\",\"Name\":\"a-long-name\"}\n{\"ID\":\"2\",\"Labels\":\"\",\"Name\":\"\"}\n",
            ),
            (Some("{{.Name}}/{{.ID}}"), true, "a-long-name/1\n/2\n"),
            (
                Some("table {{.Name}}\\t{{.ID}}"),
                false,
                "NAME          ID\na-long-name   1\n              2\n",
            ),
            (Some("table {{upper .Name}}"), false, "NAME\nA-LONG-NAME\n\n"),
        ];
        for (format, quiet, expected) in cases {
            assert_eq!(
                rendered(format, quiet).as_deref(),
                Ok(expected),
                "{format:?} {quiet}"
            );
        }
    }

    #[test]
    fn a_column_that_is_not_there_is_named_with_those_that_are() {
        let expected = "--format: there is no .Nmae, expected one of .ID, .Name, .Labels";
        assert_eq!(rendered(Some("{{.Nmae}}"), false), Err(expected.to_owned()));
        assert_eq!(
            rendered(Some("table {{upper (.Nmae)}}"), false),
            Err(expected.to_owned())
        );
        assert_eq!(
            rendered(Some("{{println \"a .b\"}}"), false).as_deref(),
            Ok("a .b\n\na .b\n\n")
        );
    }
}
