//! Unmaps the code of this program once it has started.
//!
//! The start runs code that nothing runs again, from all over the program, and for each page that is touched the kernel maps the 16 around it. All
//! of these would count as memory of the process until it ends: most of its resident memory when idle. What is used again is mapped again at its
//! first use, from the page cache.

use std::{fs, io, ops::Range, path::Path, ptr};

/// Unmaps the code of this program. Each page is mapped again when it is next used.
pub(crate) fn unmap() -> io::Result<()> {
    let program = fs::read_link("/proc/self/exe")?;
    for code in code(&fs::read_to_string("/proc/self/maps")?, &program) {
        advise_not_needed(code)?;
    }
    Ok(())
}

/// The addresses at which the code of a program is mapped, according to `/proc/PID/maps`.
///
/// It is mapped read-only from its file and never relocated, so that the file has all of it. Relocated constants are in a mapping of their own,
/// which is not executable.
fn code(maps: &str, program: &Path) -> Vec<Range<usize>> {
    maps.lines()
        .filter_map(|line| {
            let (addresses, rest) = line.split_once(' ')?;
            // Permissions, offset, device, inode, and after spaces the path, which may contain some.
            let mut fields = rest.splitn(5, ' ');
            let is_code = fields.next()? == "r-xp";
            let path = fields.nth(3)?.trim_start();
            let (start, end) = addresses.split_once('-')?;
            let range = usize::from_str_radix(start, 16).ok()?..usize::from_str_radix(end, 16).ok()?;
            (is_code && Path::new(path) == program).then_some(range)
        })
        .collect()
}

#[expect(unsafe_code, reason = "no crate in use wraps it safely")]
fn advise_not_needed(code: Range<usize>) -> io::Result<()> {
    // SAFETY: the range is a whole mapping of this program's file without write permission, so that each page has the same content when it is
    // mapped again.
    match unsafe {
        libc::madvise(
            ptr::with_exposed_provenance_mut(code.start),
            code.len(),
            libc::MADV_DONTNEED,
        )
    } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The resident part of the code of this process, in KiB.
    fn resident(program: &Path) -> u64 {
        let smaps = fs::read_to_string("/proc/self/smaps").unwrap();
        let mut is_code = false;
        let mut resident = 0;
        for line in smaps.lines() {
            if let Some(size) = line.strip_prefix("Rss:") {
                let size: u64 = size.trim().trim_end_matches(" kB").parse().unwrap();
                resident += if is_code { size } else { 0 };
            } else if line.contains('-') {
                is_code = !code(line, program).is_empty();
            }
        }
        resident
    }

    #[test]
    fn code_that_is_not_used_again_is_not_resident() {
        let program = fs::read_link("/proc/self/exe").unwrap();
        let before = resident(&program);
        unmap().unwrap();
        let after = resident(&program);
        assert!(after > 0 && after < before, "{before} KiB, then {after} KiB");
    }

    #[test]
    fn only_the_code_of_the_program_is_found() {
        let maps = "\
            55f0-55f2 r--p 00000000 fe:00 77                         /opt/my apps/chandlery\n\
            55f2-55f8 r-xp 00002000 fe:00 77                         /opt/my apps/chandlery\n\
            55f8-55f9 r--p 00008000 fe:00 77                         /opt/my apps/chandlery\n\
            55f9-55fa rw-p 00009000 fe:00 77                         /opt/my apps/chandlery\n\
            7f00-7f04 r-xp 00026000 fe:00 78                         /usr/lib/libc.so.6\n\
            7f04-7f05 rw-p 00000000 00:00 0 \n\
            7ffe-7fff r-xp 00000000 00:00 0                          [vdso]\n";
        let found = code(maps, Path::new("/opt/my apps/chandlery"));
        assert_eq!(found, std::slice::from_ref(&(0x55f2..0x55f8)));
    }
}
