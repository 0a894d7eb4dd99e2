//! Text tables: columns as wide as they must be, numbers to the right.

use std::fmt::Write;

/// How a column stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Align {
    Left,
    Right,
}

/// A table with a heading.
#[derive(Debug)]
pub(crate) struct Table {
    columns: Vec<(&'static str, Align)>,
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(crate) fn new(columns: &[(&'static str, Align)]) -> Self {
        Self {
            columns: columns.to_vec(),
            rows: Vec::new(),
        }
    }

    /// Adds a row; cells that are missing are empty.
    pub(crate) fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.rows.push(cells.into());
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The table, each line with this many spaces in front.
    pub(crate) fn render(&self, indent: usize) -> String {
        let cell = |row: &[String], column: usize| row.get(column).cloned().unwrap_or_default();
        let widths: Vec<usize> = self
            .columns
            .iter()
            .enumerate()
            .map(|(column, (name, _))| {
                let widest = self
                    .rows
                    .iter()
                    .map(|row| cell(row, column).chars().count())
                    .max()
                    .unwrap_or(0);
                widest.max(name.chars().count())
            })
            .collect();
        let heading: Vec<String> = self.columns.iter().map(|(name, _)| name.to_uppercase()).collect();
        let mut text = String::new();
        for row in std::iter::once(&heading).chain(&self.rows) {
            let mut line = " ".repeat(indent);
            for (column, ((_, align), width)) in self.columns.iter().zip(&widths).enumerate() {
                let cell = cell(row, column);
                // Writing to a string does not fail.
                let _ = match align {
                    Align::Left => write!(line, "{cell:<width$}  "),
                    Align::Right => write!(line, "{cell:>width$}  "),
                };
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }
}

/// A number of bytes in the unit that leaves at most four digits.
pub(crate) fn bytes(count: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if count < 1024 {
        return format!("{count} B");
    }
    let mut unit = 0;
    let mut tenths = u128::from(count) * 10 / 1024;
    while tenths >= 10_240 && unit + 1 < UNITS.len() {
        tenths /= 1024;
        unit += 1;
    }
    format!("{}.{} {}", tenths / 10, tenths % 10, UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_lines_do_not_trail() {
        let mut table = Table::new(&[
            ("task", Align::Left),
            ("packets", Align::Right),
            ("node", Align::Left),
        ]);
        table.row(["web.1".into(), "7".into(), "n1".into()]);
        table.row(["web.10".into(), "12345678".into(), String::new()]);
        assert_eq!(
            table.render(2),
            "  TASK     PACKETS  NODE\n  web.1          7  n1\n  web.10  12345678\n"
        );
    }

    #[test]
    fn an_empty_table_is_its_heading() {
        let table = Table::new(&[("a", Align::Left), ("b", Align::Right)]);
        assert!(table.is_empty());
        assert_eq!(table.render(0), "A  B\n");
    }

    #[test]
    fn widths_count_characters() {
        let mut table = Table::new(&[("x", Align::Left), ("y", Align::Left)]);
        table.row(["é".into(), "1".into()]);
        table.row(["ab".into(), "2".into()]);
        assert_eq!(table.render(0), "X   Y\né   1\nab  2\n");
    }

    #[test]
    fn bytes_keep_to_four_digits() {
        for (count, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1536, "1.5 KiB"),
            (1_048_575, "1023.9 KiB"),
            (1_048_576, "1.0 MiB"),
            (u64::MAX, "15.9 EiB"),
        ] {
            assert_eq!(bytes(count), text);
        }
    }
}
