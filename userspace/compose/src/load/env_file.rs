//! Files of variables, a `NAME=VALUE` a line.

/// A line that is none of a file of variables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnvFileError {
    /// Which, from 1.
    pub line: usize,
    /// What is wrong.
    pub text: &'static str,
}

impl std::fmt::Display for EnvFileError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "line {}: {}", self.line, self.text)
    }
}

impl std::error::Error for EnvFileError {}

/// The variables of a file, in its order, without comments and empty lines; a name alone takes the value it has here,
/// or is left out.
///
/// # Errors
/// The first line that is none.
pub fn env_file(
    text: &str,
    here: impl Fn(&str) -> Option<String>,
) -> Result<Vec<(String, String)>, EnvFileError> {
    let mut variables = Vec::new();
    for (at, line) in text.lines().enumerate() {
        let line = if at == 0 {
            line.trim_start_matches('\u{feff}')
        } else {
            line
        };
        let line = line.trim_start();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (name, value) = match line.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (line, None),
        };
        let refused = |text| EnvFileError { line: at + 1, text };
        if name.is_empty() {
            return Err(refused("there is no name before the ="));
        }
        if name.contains(char::is_whitespace) {
            return Err(refused("the name has spaces in it"));
        }
        if let Some(value) = value.or_else(|| here(name)) {
            variables.push((name.to_owned(), value));
        }
    }
    Ok(variables)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_as_docker_reads_them() {
        let here = |name: &str| (name == "HOME").then(|| "/root".to_owned());
        let text = "\u{feff}A=1\n# a comment\n\n  B=x=y # kept \nHOME\nNOWHERE\nEMPTY=\n";
        let variables = env_file(text, here).unwrap();
        let expected = [("A", "1"), ("B", "x=y # kept "), ("HOME", "/root"), ("EMPTY", "")];
        let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(variables, expected);
        for (text, line) in [("A=1\n=2", 2), ("A B=1", 1), ("A = 1", 1), ("\n\na b", 3)] {
            assert_eq!(env_file(text, here).unwrap_err().line, line, "{text:?}");
        }
    }
}
