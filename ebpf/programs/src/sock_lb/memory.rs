//! What a UDP socket remembers of the address that it asked for, in socket storage: it dies with the socket.

use essaim_abi::SocketState;

use super::call::{Call, Peer};
use super::pick::Choice;
use crate::maps::SOCKET_STATE;
use crate::tables;

/// What the socket remembers.
#[inline(always)]
pub(super) fn recall<const V6: bool>(call: &Call<V6>) -> Option<&SocketState> {
    // SAFETY: the kernel passes a valid context; the entry stays readable until the program ends, and the
    // socket's lock, which every hook holds, keeps others from writing it.
    unsafe { SOCKET_STATE.get_ptr_mut(call.context()).as_ref() }
}

/// Lets the socket remember a translation in place of an earlier one; false where there is no memory for it.
#[inline(always)]
pub(super) fn remember<const V6: bool>(
    call: &Call<V6>,
    asked: &Peer,
    given: &Peer,
    service: u32,
    choice: &Choice,
) -> bool {
    let mut state = SocketState {
        asked: asked.addr,
        given: given.addr,
        asked_port: asked.port,
        given_port: given.port,
        service,
        backend: choice.backend,
        backend_generation: choice.generation,
    };
    // SAFETY: as in `recall`.
    let entry = unsafe { SOCKET_STATE.get_or_insert_ptr_mut(call.context(), Some(&mut state)) };
    if entry.is_null() {
        return false;
    }
    // SAFETY: checked above. An entry that was there already still holds the earlier translation.
    unsafe { entry.write(state) };
    true
}

/// Forgets an earlier translation: the socket now talks to an address that is not translated.
#[inline(always)]
pub(super) fn forget<const V6: bool>(call: &Call<V6>) {
    // Deleting takes a reference of the socket, looking does not; and hardly any socket is connected twice.
    if recall(call).is_some() {
        // SAFETY: the kernel passes a valid context, and the socket in it lives during the call.
        let _absent = unsafe { SOCKET_STATE.delete((*call.context().sock_addr).__bindgen_anon_1.sk) };
    }
}

/// Whether the backend that is remembered is still the same and takes packets.
#[inline(always)]
pub(super) fn is_current(state: &SocketState) -> bool {
    tables::backend(state.backend).is_some_and(|backend| backend.generation == state.backend_generation)
}

/// The address that the socket asked for.
#[inline(always)]
pub(super) fn asked(state: &SocketState) -> Peer {
    Peer {
        addr: state.asked,
        port: state.asked_port,
    }
}

/// The address that it was given instead.
#[inline(always)]
pub(super) fn given(state: &SocketState) -> Peer {
    Peer {
        addr: state.given,
        port: state.given_port,
    }
}
