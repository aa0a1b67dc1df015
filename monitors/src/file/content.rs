//! Looking for a text in a file, without ever waiting for a pipe or a device.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use nix::fcntl::OFlag;
use regex::bytes::Regex;

use super::search::{kind_of, reason};

/// Bytes read for `contains` and `matches`: a whole file if it is no larger, else its end, where logs are current.
pub(crate) const MAX_READ_BYTES: u64 = 1024 * 1024;

/// What a file must contain.
#[derive(Debug, Clone)]
pub(crate) struct Wanted {
    pub(crate) pattern: Regex,
    /// As it is named in messages: "the text `x`".
    pub(crate) shown: String,
}

/// What is wanted and not in the file, or not in its last [`MAX_READ_BYTES`], as it is named in messages. Blocks.
///
/// # Errors
/// Why the file cannot be read, as a sentence.
pub(crate) fn missing(path: &Path, wanted: &[Wanted]) -> Result<Vec<String>, String> {
    let content = read_end(path)?;
    let missed = wanted.iter().filter(|wanted| !wanted.pattern.is_match(&content));
    Ok(missed.map(|wanted| wanted.shown.clone()).collect())
}

/// Reads the file, or the last [`MAX_READ_BYTES`] of it. Blocks on a dead mount, but not on pipes and devices.
///
/// # Errors
/// Why it cannot be read, as a sentence.
pub(crate) fn read_end(path: &Path) -> Result<Vec<u8>, String> {
    try_read(path).map_err(|error| match error.kind() {
        ErrorKind::NotFound => format!(
            "`{}` vanished while it was being looked at (hint: is it being rotated or replaced right now?)",
            path.display()
        ),
        _ => format!("cannot read `{}`: {}", path.display(), reason(&error)),
    })
}

fn try_read(path: &Path) -> io::Result<Vec<u8>> {
    // It was a regular file a moment ago; should it be a pipe by now, opening must not wait for a writer.
    let mut file =
        OpenOptions::new().read(true).custom_flags((OFlag::O_NONBLOCK | OFlag::O_NOCTTY).bits()).open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::other(format!("it is {}, not a regular file", kind_of(&metadata))));
    }
    skip_to_end(&mut file, metadata.len())?;
    let mut content = Vec::new();
    // It may have grown since: the limit holds all the same.
    file.take(MAX_READ_BYTES).read_to_end(&mut content)?;
    Ok(content)
}

fn skip_to_end(file: &mut File, bytes: u64) -> io::Result<()> {
    if bytes > MAX_READ_BYTES {
        file.seek(SeekFrom::Start(bytes - MAX_READ_BYTES))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use regex::bytes::Regex;

    use super::{Wanted, missing};

    #[test]
    fn what_is_missing_is_named_also_in_what_is_no_text() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("x");
        std::fs::write(&file, b"\xff\x00 done \xfe").unwrap();
        let wanted = ["done", "undone"].map(|text| Wanted { pattern: Regex::new(text).unwrap(), shown: text.into() });
        assert_eq!(missing(&file, &wanted), Ok(vec!["undone".to_owned()]));
    }
}
