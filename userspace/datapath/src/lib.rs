//! The shell over the kernel's BPF: programs, maps, pins and links of a node, and the map image of its plan.
//!
//! [`Datapath::open`] adopts or makes what is pinned, [`Datapath::attach`] hangs the programs in, and
//! [`Datapath::apply`] writes a plan into the maps. What is written is computed first, by pure code, and compared with
//! what is there; only the difference is stored.

mod answers;
mod apply;
mod bpf;
mod changes;
mod clock;
mod clsact;
mod counters;
mod datapath;
mod error;
mod events;
mod front;
mod generation;
mod heap;
mod image;
mod indices;
mod kernel;
mod links;
mod local_addresses;
mod mapped;
mod maps;
mod migrate;
mod object;
mod pins;
mod programs;
mod regions;
mod sizing;
mod state;
mod stub;
mod sweep;
mod table;
mod trace;
mod verify;

pub use answers::{AnswerStore, Answering};
pub use apply::ApplyReport;
pub use bpf::{RunInput, RunOutput, SkbContext, XdpContext, XdpMode};
pub use counters::CountersReport;
pub use datapath::{Datapath, DatapathOptions, clean};
pub use error::DatapathError;
pub(crate) use error::syscall;
pub use events::EventRing;
pub use links::{AttachReport, Attachment, XdpAttachment};
pub use mapped::MappedArray;
pub use maps::Maps;
pub use programs::{Programs, set_program, test_run};
pub use sizing::Sizing;
pub use sweep::SweepReport;
pub use table::{CounterArray, Table};
pub use trace::{TraceRequest, TraceStep};
pub use verify::{Difference, Problem};
