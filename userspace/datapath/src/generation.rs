//! Adopting the generation that runs, or making the next one and switching to it.

use crate::bpf::{MapSpec, map_info};
use crate::maps::Maps;
use crate::migrate::{self, Replaced};
use crate::object::PROGRAMS;
use crate::pins::{self, Meta, Pins};
use crate::programs::Programs;
use crate::stub::Stub;
use crate::{DatapathError, Sizing, links, syscall};
use essaim_abi::ABI_VERSION;
use essaim_abi::maps::{GENERATIONS, TC_INNER};
use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

/// Maps and programs of a generation.
#[derive(Debug)]
pub(crate) struct Generation {
    pub(crate) maps: Maps,
    pub(crate) programs: Programs,
}

/// Opens the generation that runs; `None` where none does.
///
/// # Errors
/// Where it was left by another version of the ABI, or a pin is missing.
pub(crate) fn open(pins: &Pins, stub: &Stub) -> Result<Option<Generation>, DatapathError> {
    let Some(meta) =
        Pins::meta(&pins.maps())?.filter(|meta| stub.generation().is_ok_and(|n| n == meta.generation))
    else {
        return Ok(None);
    };
    if meta.abi_version != ABI_VERSION {
        return Err(DatapathError::NewerAbi {
            path: pins.root().to_owned(),
            found: meta.abi_version,
            known: ABI_VERSION,
        });
    }
    let maps = Maps::new(pins::open_all(&pins.maps())?)?;
    let programs = Programs::new(pins::open_all(&pins.programs(meta.generation))?);
    Ok(Some(Generation { maps, programs }))
}

/// Adopts the generation that runs if it is this build's, at least as large as asked; else makes the next one, carries
/// the contents over and switches.
///
/// # Errors
/// Where the kernel refuses a map or a program: what ran before still runs.
pub(crate) fn adopt_or_make(
    pins: &Pins,
    stub: &mut Stub,
    sizing: Sizing,
) -> Result<Generation, DatapathError> {
    settle(pins, stub)?;
    let old = pins::open_all(&pins.maps())?;
    let meta = Pins::meta(&pins.maps())?;
    if let Some(meta) = meta.filter(|meta| meta.abi_version > ABI_VERSION) {
        return Err(DatapathError::NewerAbi {
            path: pins.root().to_owned(),
            found: meta.abi_version,
            known: ABI_VERSION,
        });
    }
    let wanted = PROGRAMS.maps(sizing.max(sizes(&old)?))?;
    let known = meta.is_some_and(|meta| meta.abi_version == ABI_VERSION && meta.object == PROGRAMS.hash());
    if known
        && same(&old, &wanted)?
        && let Some(running) = open(pins, stub)?
        && PROGRAMS
            .programs()?
            .iter()
            .all(|name| running.programs.fd(name).is_ok())
    {
        links::update_sockets(pins, &running.programs)?;
        return Ok(running);
    }
    make(pins, stub, sizing.max(sizes(&old)?), &old, meta)
}

/// Ends what a crash in the middle of [`make`] left.
fn settle(pins: &Pins, stub: &Stub) -> Result<(), DatapathError> {
    let current = stub.generation()?;
    let runs = |meta: Option<Meta>| meta.is_some_and(|meta| meta.generation == current);
    if !runs(Pins::meta(&pins.maps())?) && runs(Pins::meta(&pins.maps_next())?) {
        // The switch was made: what is next runs already.
        pins.exchange_maps()?;
    }
    pins::remove_folder(&pins.maps_next())?;
    if runs(Pins::meta(&pins.maps())?) {
        remove_other_programs(pins, stub, current)?;
    }
    Ok(())
}

fn make(
    pins: &Pins,
    stub: &mut Stub,
    sizing: Sizing,
    old: &BTreeMap<String, OwnedFd>,
    meta: Option<Meta>,
) -> Result<Generation, DatapathError> {
    let number = (stub.generation()? + 1) % GENERATIONS;
    let next = pins.maps_next();
    pins::make_folder(&next)?;
    let wanted = PROGRAMS.maps(sizing)?;
    let same_abi = meta.is_some_and(|meta| meta.abi_version == ABI_VERSION);
    for (name, spec) in &wanted {
        if let Some(map) = old.get(name).filter(|_| same_abi && reusable(name))
            && definition(name, map)? == *spec
        {
            pins::pin(map, &next.join(name))?;
        }
    }
    let paths: BTreeMap<String, PathBuf> = wanted
        .keys()
        .filter(|name| pins::can_pin(name))
        .map(|name| (name.clone(), next.join(name)))
        .collect();
    let loaded = PROGRAMS.load(sizing, &paths)?;
    let programs = Programs::new(loaded.programs);
    let inner = loaded.maps.get(TC_INNER);
    let inner = inner.ok_or_else(|| DatapathError::Missing {
        kind: "map",
        name: TC_INNER.to_owned(),
    })?;
    programs.link_inner(std::os::fd::AsFd::as_fd(inner))?;

    let folder = pins.programs(number);
    pins::remove_folder(&folder)?;
    pins::make_folder(&folder)?;
    for (name, fd) in programs.iter() {
        pins::pin(&fd, &folder.join(name))?;
    }
    Pins::write_meta(
        &next,
        &Meta {
            abi_version: ABI_VERSION,
            generation: number,
            object: PROGRAMS.hash(),
        },
    )?;
    stub.fill(number, &programs)?;

    let mut replaced = Replaced::new();
    for (name, new) in loaded.maps.iter().filter(|(name, _)| reusable(name)) {
        if let Some(old) = old.get(name)
            && id(name, old)? != id(name, new)?
        {
            replaced.insert(name, (old, new));
        }
    }
    migrate::copy(&replaced)?;
    stub.switch(number)?;
    links::update_sockets(pins, &programs)?;
    migrate::copy_delta(&replaced)?;
    pins.exchange_maps()?;
    pins::remove_folder(&pins.maps_next())?;
    remove_other_programs(pins, stub, number)?;
    Ok(Generation {
        maps: Maps::new(loaded.maps)?,
        programs,
    })
}

/// Whether a map outlives its generation: the array of inner programs does not.
fn reusable(name: &str) -> bool {
    name != TC_INNER && pins::can_pin(name)
}

fn remove_other_programs(pins: &Pins, stub: &Stub, number: u32) -> Result<(), DatapathError> {
    stub.clear_others(number)?;
    for other in pins::names(&pins.all_programs())? {
        if other != number.to_string() {
            pins::remove_folder(&pins.all_programs().join(other))?;
        }
    }
    Ok(())
}

fn definition(name: &str, map: &OwnedFd) -> Result<MapSpec, DatapathError> {
    Ok(map_info(map)
        .map_err(syscall("read the definition of map", name))?
        .spec)
}

fn id(name: &str, map: &OwnedFd) -> Result<u32, DatapathError> {
    Ok(map_info(map)
        .map_err(syscall("read the definition of map", name))?
        .id)
}

fn same(old: &BTreeMap<String, OwnedFd>, wanted: &BTreeMap<String, MapSpec>) -> Result<bool, DatapathError> {
    for (name, spec) in wanted.iter().filter(|(name, _)| pins::can_pin(name)) {
        let Some(map) = old.get(name) else {
            return Ok(false);
        };
        if definition(name, map)? != *spec {
            return Ok(false);
        }
    }
    Ok(true)
}

/// How large the pinned maps are; nothing for those that are not there.
pub(crate) fn sizes(maps: &BTreeMap<String, OwnedFd>) -> Result<Sizing, DatapathError> {
    let entries = |name: &str| match maps.get(name) {
        Some(map) => definition(name, map).map(|spec| spec.max_entries),
        None => Ok(0),
    };
    Ok(Sizing {
        services: entries(essaim_abi::maps::SERVICES)?,
        backends: entries(essaim_abi::maps::BACKENDS)?,
        tables: entries(essaim_abi::maps::TABLES)?,
        endpoints: entries(essaim_abi::maps::ENDPOINT_BY_ADDR)?,
        flows: entries(essaim_abi::maps::FLOWS)?,
    })
}
