//! Another build of the program under test, for upgrades.

use anyhow::{Context as _, ensure};
use essaim_abi::maps::MAX_HALF_OPEN_FLOWS;
use essaim_lab::Cluster;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

/// Machine number of BPF in an ELF header.
const EM_BPF: [u8; 2] = [247, 0];

/// An ELF header of a little-endian 64-bit file begins so; seven bytes of padding follow.
const ELF: [u8; 9] = [0x7f, b'E', b'L', b'F', 2, 1, 1, 0, 0];

/// An array in BTF, as map definitions write their number of entries: name, kind and size; then the types of element
/// and index, and the number.
const BTF_ARRAY: [u8; 12] = [0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0];

/// Where the number stands.
const BTF_ARRAY_LENGTH: usize = 20;

/// Makes a copy of the program whose BPF objects differ: in a byte that means nothing, so that they are other programs,
/// and in the size of the map of half-open flows, so that its contents must move.
///
/// # Errors
/// When the program cannot be read or written, or embeds no such objects.
pub fn other_build(program: &Path, folder: &Path) -> anyhow::Result<PathBuf> {
    let mut bytes = std::fs::read(program)?;
    let headers: Vec<_> = find(&bytes, &ELF)
        .filter(|at| bytes.get(at + 18..at + 20) == Some(&EM_BPF))
        .collect();
    ensure!(!headers.is_empty(), "{} embeds no BPF object", program.display());
    let mut objects = Vec::new();
    for at in headers {
        // The table of sections comes last.
        let table = bytes.get(at + 40..at + 48).context("the header is cut off")?;
        objects.push(at..at + usize::try_from(u64::from_le_bytes(table.try_into()?))?);
        if let Some(padding) = bytes.get_mut(at + 15) {
            *padding ^= 1;
        }
    }
    let entries = MAX_HALF_OPEN_FLOWS.to_le_bytes();
    let lengths: Vec<_> = find(&bytes, &BTF_ARRAY)
        .map(|at| at + BTF_ARRAY_LENGTH..at + BTF_ARRAY_LENGTH + entries.len())
        .filter(|field| objects.iter().any(|object| object.contains(&field.start)))
        .filter(|field| bytes.get(field.clone()) == Some(&entries))
        .collect();
    // The compiler may embed an object more than once.
    ensure!(!lengths.is_empty(), "no map has {MAX_HALF_OPEN_FLOWS} entries");
    for field in lengths {
        if let Some(length) = bytes.get_mut(field) {
            length.copy_from_slice(&(MAX_HALF_OPEN_FLOWS * 2).to_le_bytes());
        }
    }
    let path = folder.join("essaim");
    std::fs::write(&path, bytes)?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755))?;
    Ok(path)
}

fn find<'a>(bytes: &'a [u8], wanted: &'a [u8]) -> impl Iterator<Item = usize> + 'a {
    let first = wanted.first().copied().unwrap_or_default();
    bytes
        .iter()
        .enumerate()
        .filter(move |(_, byte)| **byte == first)
        .map(|(at, _)| at)
        .filter(move |at| bytes.get(*at..at + wanted.len()) == Some(wanted))
}

/// The folder of the programs that are pinned for a node: there is one, for the generation that runs.
///
/// # Errors
/// When there is none, or another.
pub fn generation(cluster: &Cluster, node: &str) -> anyhow::Result<String> {
    let root = cluster.bpf_root(node).display().to_string();
    let list = cluster
        .exec(node, &["find", &root, "-path", "*/progs/*", "-type", "d"])?
        .ok()?;
    let mut found = list.lines();
    match (found.next(), found.next()) {
        (Some(one), None) => Ok(one.to_owned()),
        _ => anyhow::bail!("folders of programs: {list:?}"),
    }
}
