//! Sockets that a program may make. Landlock knows the ports of TCP alone, and looks at connect(2) and bind(2): what speaks over the same
//! network by another way is refused here.

use std::collections::BTreeMap;

use seccompiler::{SeccompCmpArgLen::Dword, SeccompCmpOp, SeccompCondition, SeccompRule};

use crate::{
    condition::{Error, masked},
    spec::Confinement,
};

/// Calls to refuse, each when one of its rules holds.
pub(crate) type Calls = BTreeMap<i64, Vec<SeccompRule>>;

/// Those of the Internet.
const INTERNET: [libc::c_int; 2] = [libc::AF_INET, libc::AF_INET6];
/// What Landlock knows, and UDP; 0 is one of these, by the type. Not MPTCP and SCTP, which reach the same services.
const PROTOCOLS: [libc::c_int; 3] = [0, libc::IPPROTO_TCP, libc::IPPROTO_UDP];
/// Bits that no type has but `SOCK_STREAM` (1) and `SOCK_DGRAM` (2). With protocol 0, `SOCK_SEQPACKET` is SCTP.
const OTHER_TYPES: [u64; 3] = [4, 8, 3];
/// Options of TCP that Landlock does not see: to connect with the first write, and to become another protocol (as SMC does on some kernels).
const OPTIONS: [libc::c_int; 2] = [libc::TCP_FASTOPEN_CONNECT, libc::TCP_ULP];
/// Calls that send, and which of their arguments are the flags.
const SENDS: [(libc::c_long, u8); 3] = [(libc::SYS_sendto, 3), (libc::SYS_sendmsg, 2), (libc::SYS_sendmmsg, 3)];

/// Refused with EPERM: families that no server needs.
pub(crate) fn families(unix: bool) -> Result<Vec<SeccompRule>, Error> {
    let mut families = [&INTERNET[..], &[libc::AF_NETLINK]].concat();
    if unix {
        families.push(libc::AF_UNIX);
    }
    let others = families.iter().map(|&family| is(0, SeccompCmpOp::Ne, family));
    Ok(vec![SeccompRule::new(others.collect::<Result<_, _>>()?)?])
}

/// Refused with EPROTONOSUPPORT, as by a kernel that lacks them: runtimes then use TCP.
pub(crate) fn protocols(confinement: &Confinement) -> Result<Calls, Error> {
    // The addresses of this machine. Other protocols of netlink list the sockets of all its processes, or are for its administrator.
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

/// Refused with EOPNOTSUPP, as by a kernel where they are turned off: ways to connect without connect(2).
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

/// Who decides listen(2). Of a socket that has no port, it takes a free one at all addresses, which Landlock does not see.
pub(crate) enum Listens {
    /// Nobody: it succeeds.
    ///
    /// What remains where ports are limited, but there is no init that could be asked: a program that has a port can listen on free ports as well.
    Always,
    /// The init, see [`crate::listening`].
    Asks,
    /// The filter: it fails. Without an init, a program without a port can make no other socket that it could listen with.
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
