//! Selects the lines of a failed server that show the cause.

/// How many of the first lines: Node.js prints the cause before the stack trace.
const FIRST: usize = 8;
/// How many of the last lines: Python and others print the cause after the stack trace.
const LAST: usize = 10;
/// The longest line, in bytes; `SHORT` if they would not fit otherwise.
const LONG: usize = 300;
const SHORT: usize = 150;
/// The size of the excerpt, in bytes.
const ROOM: usize = 2_800;

/// The first and the last lines that a server wrote since it was started, with a line that counts those left out. For a server that `ran`
/// before it failed, only the last lines, since the first ones do not matter any more.
pub(super) fn excerpt(lines: &[String], ran: bool) -> Vec<String> {
    let first = if ran { 0 } else { FIRST };
    let (head, tail) = match lines.len().checked_sub(first + LAST) {
        // A line that says that one line was left out would be no shorter.
        Some(between) if between > 1 => (&lines[..first], &lines[first + between..]),
        _ => (&[][..], lines),
    };
    let between = lines.len() - head.len() - tail.len();
    let all = || head.iter().chain(tail);
    let length = all().map(|line| line.len().min(LONG) + 1).sum::<usize>();
    let limit = if length <= ROOM { LONG } else { SHORT };
    let mut shown: Vec<_> = all()
        .map(|line| line[..line.floor_char_boundary(limit)].to_owned())
        .collect();
    if between > 0 && !ran {
        shown.insert(head.len(), format!("[{between} more lines]"));
    }
    shown
}

#[cfg(test)]
mod tests {
    use pretty_assertions::assert_eq;

    use super::*;

    fn lines(text: &str) -> Vec<String> {
        text.lines().map(str::to_owned).collect()
    }

    #[test]
    fn shows_the_cause_wherever_it_stands() {
        let frames = |count: usize| {
            (0..count)
                .map(|n| format!("    at frame{n} (node:internal/modules:{n})\n"))
                .collect::<String>()
        };
        let node = format!(
            "node:internal/modules/cjs/loader:1228\n  throw err;\n  ^\n\nError: Cannot find module 'left-pad'\n{}\nNode.js v22",
            frames(40)
        );
        let shown = excerpt(&lines(&node), false);
        assert!(
            shown.iter().any(|line| line.contains("Cannot find module")),
            "{shown:?}"
        );
        assert_eq!(shown.last().map(String::as_str), Some("Node.js v22"));
        assert_eq!(shown[FIRST], "[29 more lines]");
        let python = format!("Traceback (most recent call last):\n{}ValueError: no port", frames(40));
        assert_eq!(
            excerpt(&lines(&python), false).last().map(String::as_str),
            Some("ValueError: no port")
        );
    }

    #[test]
    fn leaves_nothing_out_where_there_is_little() {
        for count in [0, 1, FIRST + LAST + 1] {
            let few: Vec<_> = (0..count).map(|n| n.to_string()).collect();
            assert_eq!(excerpt(&few, false), few);
        }
    }

    #[test]
    fn of_a_server_that_ran_only_the_last_lines_matter() {
        let many: Vec<_> = (0..100).map(|n| n.to_string()).collect();
        assert_eq!(excerpt(&many, true), many[90..]);
    }

    #[test]
    fn fits_into_a_message() {
        let long = vec!["ü".repeat(1_000); 100];
        let length = excerpt(&long, false).iter().map(|line| line.len() + 1).sum::<usize>();
        assert!(length <= ROOM, "{length}");
        assert_eq!(excerpt(&long[..3], false)[0].len(), LONG);
    }
}
