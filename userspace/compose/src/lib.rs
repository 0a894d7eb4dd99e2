//! Stack files: from the text of compose files, version 3, to the objects to create.
//!
//! Pure: files that the text names are read by a function that the caller gives, variables come from another. The way:
//!
//! | part | does |
//! |---|---|
//! | `yaml` | text to a tree with places; anchors, merge keys, bounds |
//! | `interpolate` | variables |
//! | `read`, `load` | the tree to what is asked for ([`Stack`]); every problem is told, with its place |
//! | `merge` | several files as one |
//! | `convert` | what is asked for to the objects that `docker stack deploy` would post ([`Plan`]) |
//! | `print` | what is asked for as one file |
#![forbid(unsafe_code)]

mod convert;
mod interpolate;
mod load;
mod merge;
mod model;
mod place;
mod print;
mod read;
mod yaml;

pub use convert::{IMAGE_LABEL, NAMESPACE_LABEL, Plan, is_predefined};
pub use load::{EnvFileError, Loaded, Source, Surroundings, env_file, load};
pub use model::Stack;
pub use place::{Place, Problem, Problems};
