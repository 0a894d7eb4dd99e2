//! Numbers of the protocol (IANA, "Domain Name System Parameters").

/// Bits of the header's second word.
pub(crate) mod flags {
    /// It is a response.
    pub(crate) const RESPONSE: u16 = 0x8000;
    /// The kind of question; 0 is the ordinary one.
    pub(crate) const OPCODE: u16 = 0x7800;
    /// The answer comes from the one who knows.
    pub(crate) const AUTHORITATIVE: u16 = 0x0400;
    /// It did not all fit.
    pub(crate) const TRUNCATED: u16 = 0x0200;
    /// Recursion is desired.
    pub(crate) const RECURSION_DESIRED: u16 = 0x0100;
    /// Recursion is available.
    pub(crate) const RECURSION_AVAILABLE: u16 = 0x0080;
    /// DNSSEC: the answer was verified.
    pub(crate) const AUTHENTIC: u16 = 0x0020;
    /// DNSSEC: the answer need not be verified.
    pub(crate) const CHECKING_DISABLED: u16 = 0x0010;
    /// The response code.
    pub(crate) const RCODE: u16 = 0x000f;
}

/// Types of records and questions.
pub(crate) mod kind {
    pub(crate) const A: u16 = 1;
    pub(crate) const SOA: u16 = 6;
    pub(crate) const PTR: u16 = 12;
    pub(crate) const AAAA: u16 = 28;
    pub(crate) const SRV: u16 = 33;
    pub(crate) const OPT: u16 = 41;
    pub(crate) const TKEY: u16 = 249;
    pub(crate) const TSIG: u16 = 250;
    pub(crate) const IXFR: u16 = 251;
    pub(crate) const AXFR: u16 = 252;
    pub(crate) const MAILB: u16 = 253;
    pub(crate) const MAILA: u16 = 254;
    pub(crate) const ANY: u16 = 255;
}

/// Classes.
pub(crate) mod class {
    pub(crate) const IN: u16 = 1;
    pub(crate) const ANY: u16 = 255;
}

/// How a question was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rcode {
    NoError,
    FormErr,
    ServFail,
    NxDomain,
    NotImp,
    Refused,
    /// RFC 6891; needs EDNS to be said.
    BadVers,
}

impl Rcode {
    pub(crate) const fn number(self) -> u16 {
        match self {
            Self::NoError => 0,
            Self::FormErr => 1,
            Self::ServFail => 2,
            Self::NxDomain => 3,
            Self::NotImp => 4,
            Self::Refused => 5,
            Self::BadVers => 16,
        }
    }
}
