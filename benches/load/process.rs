//! What processes used, from `proc(5)`. Times there are in 1/100 s on Linux.

const SELF: [usize; 2] = [11, 12];
/// Its own, and that of its children that ended.
const WITH_ENDED_CHILDREN: [usize; 4] = [11, 12, 13, 14];

/// User and system time of a process, in seconds.
pub(crate) fn cpu_seconds(pid: u32) -> f64 {
    seconds(pid, &SELF)
}

/// User and system time of a server and its children (PostgreSQL has one for each connection), in seconds.
pub(crate) fn server_cpu_seconds(pid: u32) -> f64 {
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    let children = children.split_whitespace().filter_map(|child| child.parse().ok()).map(cpu_seconds);
    children.sum::<f64>() + seconds(pid, &WITH_ENDED_CHILDREN)
}

fn seconds(pid: u32, fields: &[usize]) -> f64 {
    let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else { return 0.0 };
    let after_name: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    fields.iter().filter_map(|index| after_name.get(*index)?.parse::<f64>().ok()).sum::<f64>() / 100.0
}
