//! Which names may run at all. Pure: it knows names, not files.
//!
//! A directory full of plugins is a list of programs that the administrator chose. A program that runs what its
//! arguments (or its environment) name would turn that list into "anything", so such programs must be listed once more.

/// Why something may not run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{problem} (hint: {hint})")]
pub(super) struct Refusal {
    /// What is wrong, with what was found.
    pub(super) problem: String,
    /// How to mend it.
    pub(super) hint: String,
}

/// Decides on a program's name as it stands in a row.
pub(super) fn name(program: &str, allow: &[String]) -> Result<(), Refusal> {
    let refuse = |problem: String, hint: &str| Err(Refusal { problem, hint: hint.to_owned() });
    if program.contains('/') {
        return refuse(
            format!("`{program}` is a path; a program is named without a slash"),
            "write the name alone; it is looked for in the setting `plugin_dirs`",
        );
    }
    if program == "." || program == ".." || program.chars().any(char::is_control) {
        return refuse(
            format!("`{}` is no program's name", program.escape_debug()),
            "write the name of a file in `plugin_dirs`",
        );
    }
    indirection(program, &[program], allow)
}

/// Decides on all the names that one program goes by: the one in the row, the links on the way, the file itself.
pub(super) fn indirection(program: &str, names: &[&str], allow: &[String]) -> Result<(), Refusal> {
    let listed = |name: &str| allow.iter().any(|allowed| allowed == name);
    if listed(program) {
        return Ok(());
    }
    match names.iter().find(|name| runs_its_arguments(name) && !listed(name)) {
        None => Ok(()),
        Some(&name) => Err(Refusal {
            problem: if name == program {
                format!("`{program}` runs what its arguments name, and is not allowed here")
            } else {
                format!("`{program}` leads to `{name}`, which runs what its arguments name, and is not allowed here")
            },
            hint: format!(
                "an administrator can list it: `command.allow = [\"{program}\"]`; whoever may insert `command` rows \
                 may then run anything"
            ),
        }),
    }
}

/// Decides on a variable of `env`.
pub(super) fn variable(variable: &str, program: &str, allow: &[String]) -> Result<(), Refusal> {
    if variable.is_empty() || variable.contains(['=', '\0']) {
        return Err(Refusal {
            problem: "is no variable's name".into(),
            hint: "a name is not empty and holds no `=` and no NUL".into(),
        });
    }
    let steers = LOADERS.contains(&variable) || LOADER_PREFIXES.iter().any(|prefix| variable.starts_with(prefix));
    if steers && !allow.iter().any(|allowed| allowed == program) {
        return Err(Refusal {
            problem: format!("`{variable}` can make a program run something else, and is not allowed here"),
            hint: format!("an administrator can list the program: `command.allow = [\"{program}\"]`"),
        });
    }
    Ok(())
}

/// A name of the list, also with a version or a build behind it: `python3.11`, `busybox.static`.
fn runs_its_arguments(name: &str) -> bool {
    INDIRECT.iter().any(|known| {
        name.strip_prefix(known).is_some_and(|rest| {
            rest.is_empty() || rest.starts_with(|c: char| c.is_ascii_digit()) || [".static", "-static"].contains(&rest)
        })
    }) || name.starts_with("ld-linux")
        || name.starts_with("ld-musl")
        || name.starts_with("ld.so")
}

/// Programs that run what their arguments name. `check_apt` hands options to `apt-get`, which can name programs.
/// `check_nrpe` is none: it names a command that the other machine's own configuration defines.
#[rustfmt::skip]
const INDIRECT: &[&str] = &[
    // plugins
    "check_apt", "check_by_ssh", "check_generic", "check_multi", "negate", "urlize",
    // shells
    "ash", "bash", "busybox", "csh", "dash", "elvish", "fish", "ksh", "mksh", "nu", "pwsh", "rbash", "sh", "tcsh",
    "toybox", "xonsh", "yash", "zsh",
    // interpreters
    "awk", "bun", "clisp", "deno", "ed", "emacs", "erl", "escript", "ex", "expect", "gawk", "gdb", "groovy", "guile",
    "irb", "java", "jshell", "julia", "lua", "luajit", "m4", "mawk", "nawk", "nim", "node", "nodejs", "ocaml", "original-awk",
    "osascript", "perl", "php", "psql", "pypy", "python", "R", "Rscript", "ruby", "scala", "sed", "sqlite", "swipl",
    "tclsh", "ts-node", "vi", "vim", "wish",
    // wrappers
    "at", "batch", "catchsegv", "chroot", "chrt", "coproc", "cpulimit", "dbus-run-session", "doas", "docker", "dumb-init", "env", "eatmydata",
    "entr", "fakeroot", "find", "firejail", "flock", "ionice", "ip", "kubectl", "linux32", "linux64", "ltrace", "lxc-attach", "machinectl",
    "ncat", "nc", "netcat", "nice", "nohup", "nsenter", "numactl", "parallel", "perf", "pkexec", "podman", "proot", "prlimit", "run-parts", "runuser",
    "s6-setuidgid", "screen", "script", "setarch", "setpriv", "setsid", "setuidgid", "sg", "socat", "ssh-agent", "start-stop-daemon", "stdbuf",
    "strace", "su", "sudo", "sudo-rs", "systemd-run", "taskset", "tcpserver", "time", "timeout", "tini", "tmux", "unbuffer",
    "unshare", "valgrind", "watch", "xargs", "xvfb-run",
    // programs with an option that names a program
    "apt", "apt-get", "cargo", "crontab", "dpkg", "gcc", "git", "less", "make", "man", "more", "mysql", "npm", "npx",
    "openssl", "pip", "rsync", "scp", "sftp", "ssh", "tar", "wget", "zip",
];

/// Variables that make a loader, a shell or an interpreter run something else than the program.
#[rustfmt::skip]
const LOADERS: &[&str] = &[
    "CDPATH", "CHECKED_BY_WATCHBELL", "CLASSPATH", "EDITOR", "ENV", "GCONV_PATH", "GETCONF_DIR", "GLOBIGNORE", "IFS", "JAVA_TOOL_OPTIONS",
    "JDK_JAVA_OPTIONS", "LOCPATH", "NLSPATH", "PAGER", "PATH", "PHPRC", "PHP_INI_SCAN_DIR", "PS4", "SHELL",
    "SHELLOPTS", "SSH_ASKPASS", "VISUAL", "_JAVA_OPTIONS",
];

/// Beginnings of such variables.
const LOADER_PREFIXES: &[&str] =
    &["BASH", "DYLD_", "GIT_", "LD_", "LUA_", "NODE_", "OPENSSL_", "PERL", "PYTHON", "RUBY"];

#[cfg(test)]
mod tests {
    use super::{name, runs_its_arguments, variable};

    #[test]
    fn names_are_judged() {
        let allow = vec!["negate".to_owned()];
        for good in ["check_disk", "negate", "check_ssh", "check_nrpe", "show", "envoy_check", "python_age", "..."] {
            assert!(name(good, &allow).is_ok(), "{good}");
        }
        for bad in ["/bin/sh", "a/b", "./check", "..", ".", "a\0b", "a\nb", "sh", "env", "urlize", "check_by_ssh"] {
            assert!(name(bad, &allow).is_err(), "{bad}");
        }
        let text = name("negate", &[]).unwrap_err().to_string();
        assert!(text.contains("`negate` runs what its arguments name") && text.contains("command.allow"), "{text}");
    }

    #[test]
    fn versions_and_builds_are_recognised() {
        for name in ["python3.11", "perl5.36-x86_64-linux-gnu", "busybox.static", "bash5", "ld-linux-x86-64.so.2"] {
            assert!(runs_its_arguments(name), "{name}");
        }
        for name in ["check_http", "sshd_age", "time-drift", "perl_mongers", "npm-audit"] {
            assert!(!runs_its_arguments(name), "{name}");
        }
    }

    #[test]
    fn variables_that_steer_a_program_are_refused_unless_it_is_listed() {
        for bad in ["", "A=B", "PATH", "LD_PRELOAD", "BASH_ENV", "BASH_FUNC_x%%", "PERL5OPT", "PYTHONPATH"] {
            assert!(variable(bad, "check_x", &[]).is_err(), "{bad}");
        }
        assert!(variable("PGPASSWORD", "check_x", &[]).is_ok());
        assert!(variable("PERL5LIB", "check_x", &["check_x".to_owned()]).is_ok());
        assert!(variable("", "check_x", &["check_x".to_owned()]).is_err());
    }
}
