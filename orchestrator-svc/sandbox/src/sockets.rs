//! Refuses sockets that would bypass the limits of TCP ports. Landlock controls only TCP, at connect(2) and bind(2); other ways to use the
//! network are refused here.

use std::collections::BTreeMap;

use seccompiler::{SeccompCmpArgLen::Dword, SeccompCmpOp, SeccompCondition, SeccompRule};

use crate::{
    condition::{Error, masked},
    spec::Confinement,
};

/// Calls to refuse if one of their rules matches.
pub(crate) type Calls = BTreeMap<i64, Vec<SeccompRule>>;

/// The address families of the Internet.
const INTERNET: [libc::c_int; 2] = [libc::AF_INET, libc::AF_INET6];
/// The allowed protocols: TCP, which Landlock controls, and UDP; 0 selects one of these by the type. MPTCP and SCTP reach the same services as
/// TCP.
const PROTOCOLS: [libc::c_int; 3] = [0, libc::IPPROTO_TCP, libc::IPPROTO_UDP];
/// Bits that distinguish all other types from `SOCK_STREAM` (1) and `SOCK_DGRAM` (2). With protocol 0, `SOCK_SEQPACKET` is SCTP.
const OTHER_TYPES: [u64; 3] = [4, 8, 3];
/// TCP options that Landlock does not control: connecting with the first write, and changing to another protocol (SMC on some kernels).
const OPTIONS: [libc::c_int; 2] = [libc::TCP_FASTOPEN_CONNECT, libc::TCP_ULP];
/// Calls that send, and the index of their flags.
const SENDS: [(libc::c_long, u8); 3] = [(libc::SYS_sendto, 3), (libc::SYS_sendmsg, 2), (libc::SYS_sendmmsg, 3)];

/// Refused with EPERM: address families that no server requires.
pub(crate) fn families(unix: bool) -> Result<Vec<SeccompRule>, Error> {
    let mut families = [&INTERNET[..], &[libc::AF_NETLINK]].concat();
    if unix {
        families.push(libc::AF_UNIX);
    }
    let others = families.iter().map(|&family| is(0, SeccompCmpOp::Ne, family));
    Ok(vec![SeccompRule::new(others.collect::<Result<_, _>>()?)?])
}

/// Refused with EPROTONOSUPPORT, as by a kernel without them: language runtimes then use TCP.
pub(crate) fn protocols(confinement: &Confinement) -> Result<Calls, Error> {
    // NETLINK_ROUTE lists the addresses of this machine. Other netlink protocols list the sockets of all processes, or are for administrators.
    let mut rules = vec![SeccompRule::new(vec![
        is(0, SeccompCmpOp::Eq, libc::AF_NETLINK)?,
        is(2, SeccompCmpOp::Ne, libc::NETLINK_ROUTE)?,
    ])?];
    if confinement.limits_tcp() {
        for family in INTERNET {
            let family = is(0, SeccompCmpOp::Eq, family)?;
            for bits in OTHER_TYPES {
                rules.push(SeccompRule::new(vec![family.clone(), masked(1, bits)?])?);
            }
            let others = PROTOCOLS.iter().map(|&known| is(2, SeccompCmpOp::Ne, known));
            let mut conditions = vec![family];
            conditions.extend(others.collect::<Result<Vec<_>, _>>()?);
            rules.push(SeccompRule::new(conditions)?);
        }
    }
    Ok(BTreeMap::from([(libc::SYS_socket, rules)]))
}

/// Refused with EOPNOTSUPP, as by a kernel where they are disabled: ways to connect without connect(2).
pub(crate) fn connects(confinement: &Confinement) -> Result<Calls, Error> {
    let mut calls = BTreeMap::new();
    if !confinement.limits_tcp() {
        return Ok(calls);
    }
    let fast_open = u64::from(libc::MSG_FASTOPEN.cast_unsigned());
    for (call, flags) in SENDS {
        calls.insert(call, vec![SeccompRule::new(vec![masked(flags, fast_open)?])?]);
    }
    let mut options = Vec::new();
    for option in OPTIONS {
        options.push(SeccompRule::new(vec![
            is(1, SeccompCmpOp::Eq, libc::IPPROTO_TCP)?,
            is(2, SeccompCmpOp::Eq, option)?,
        ])?);
    }
    calls.insert(libc::SYS_setsockopt, options);
    Ok(calls)
}

/// What decides calls of listen(2). For a socket that is not bound, listen(2) chooses a free port on all addresses, which Landlock does not control.
pub(crate) enum Listens {
    /// Every call succeeds. Where ports are limited but no init can decide, a program that has a port can listen on free ports as well.
    Always,
    /// The init decides, see [`crate::listening`].
    Asks,
    /// Every call fails. For a program without a port, where no init can decide; it can create no Unix sockets either.
    Never,
}

impl Listens {
    pub(crate) fn of(confinement: &Confinement) -> Self {
        match &confinement.listen {
            Some(_) if !confinement.limits_tcp() => Self::Always,
            Some(_) if confinement.layers.asks_to_listen() => Self::Asks,
            Some(ports) if ports.is_empty() => Self::Never,
            _ => Self::Always,
        }
    }
}

fn is(argument: u8, operator: SeccompCmpOp, value: libc::c_int) -> Result<SeccompCondition, Error> {
    let value = u64::from(value.cast_unsigned());
    Ok(SeccompCondition::new(argument, Dword, operator, value)?)
}
