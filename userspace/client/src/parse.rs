//! From what is typed after a flag to what the API takes, by docker's rules.

mod file;
mod mount;
mod port;
mod scalar;

pub(crate) use essaim_objects::written::{Bytes, Cpus, Expected, capability, duration};
pub(crate) use file::{AttachmentFlag, FileFlag};
pub(crate) use mount::MountFlag;
pub(crate) use port::{PortRemoval, Ports};
pub(crate) use scalar::{
    Discrete, HostEntry, Placed, ascii_word, key_value, name_server, nano_duration, ratio, shell_words,
    ulimit, word,
};

/// The fields of one line of comma-separated values; a field in double quotes may hold commas.
pub(crate) fn fields(text: &str) -> Result<Vec<String>, Expected> {
    let mut fields = vec![String::new()];
    let mut characters = text.chars().peekable();
    let mut quoted = false;
    while let Some(c) = characters.next() {
        let at_start = fields.last().is_some_and(String::is_empty);
        match c {
            '"' if quoted && characters.peek() == Some(&'"') => {
                characters.next();
                push(&mut fields, '"');
            }
            '"' if quoted => quoted = false,
            '"' if at_start => quoted = true,
            '"' => return Err(Expected::new("quotes only round a whole field")),
            ',' if !quoted => fields.push(String::new()),
            c => push(&mut fields, c),
        }
    }
    if quoted {
        return Err(Expected::new("a quote at the field's end"));
    }
    Ok(fields)
}

fn push(fields: &mut [String], c: char) {
    if let Some(last) = fields.last_mut() {
        last.push(c);
    }
}

/// Whether a switch among fields is on: given alone, or with a truth as Go reads one.
pub(crate) fn switch(key: &str, value: Option<&str>) -> Result<bool, Expected> {
    match value {
        None | Some("1" | "t" | "T" | "true" | "TRUE" | "True") => Ok(true),
        Some("0" | "f" | "F" | "false" | "FALSE" | "False") => Ok(false),
        Some(_) => Err(Expected::new(format!("{key}=true or {key}=false"))),
    }
}

#[cfg(test)]
mod tests;
