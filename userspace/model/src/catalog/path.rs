//! Where in a catalog something stands.

use std::fmt::Write as _;

/// A place in the catalog, as a list on the stack: free unless something is wrong there.
#[derive(Clone, Copy)]
pub(super) struct At<'p> {
    parent: Option<&'p At<'p>>,
    step: StepRef<'p>,
}

#[derive(Clone, Copy)]
enum StepRef<'p> {
    Root,
    Field(&'p str),
    Index(usize),
}

/// One step of a [`Path`].
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Step {
    Field(String),
    Index(usize),
}

/// A place in the catalog, from the root on.
pub(super) type Path = Vec<Step>;

impl<'p> At<'p> {
    pub(super) const ROOT: At<'static> = At {
        parent: None,
        step: StepRef::Root,
    };

    pub(super) const fn field<'c>(&'c self, name: &'c str) -> At<'c>
    where
        'p: 'c,
    {
        At {
            parent: Some(self),
            step: StepRef::Field(name),
        }
    }

    pub(super) const fn index<'c>(&'c self, index: usize) -> At<'c>
    where
        'p: 'c,
    {
        At {
            parent: Some(self),
            step: StepRef::Index(index),
        }
    }

    pub(super) fn path(&self) -> Path {
        let mut path = Vec::new();
        let mut at = Some(self);
        while let Some(here) = at {
            match here.step {
                StepRef::Root => {}
                StepRef::Field(name) => path.push(Step::Field(name.to_owned())),
                StepRef::Index(index) => path.push(Step::Index(index)),
            }
            at = here.parent;
        }
        path.reverse();
        path
    }
}

/// Writes the path, with the names of the nodes, networks and services in place of their indices where they have one:
/// `services.web.ports[0].published`.
pub(super) fn render(path: &[Step], name_of: impl Fn(&str, usize) -> Option<String>) -> String {
    let mut text = String::new();
    let name = match path {
        [Step::Field(section), Step::Index(index), ..] => name_of(section, *index),
        _ => None,
    };
    for (depth, step) in path.iter().enumerate() {
        match (step, &name) {
            (Step::Index(_), Some(name)) if depth == 1 => {
                text.push('.');
                text.push_str(name);
            }
            (Step::Index(index), _) => {
                // Writing to a string cannot fail.
                let _ = write!(text, "[{index}]");
            }
            (Step::Field(field), _) => {
                if depth > 0 {
                    text.push('.');
                }
                text.push_str(field);
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_reads_like_the_file() {
        let services = At::ROOT.field("services");
        let service = services.index(3);
        let ports = service.field("ports");
        let port = ports.index(0);
        let path = port.field("published").path();
        assert_eq!(render(&path, |_, _| None), "services[3].ports[0].published");
        assert_eq!(
            render(&path, |_, _| Some("web".into())),
            "services.web.ports[0].published"
        );
        assert_eq!(render(&At::ROOT.path(), |_, _| None), "");
    }
}
