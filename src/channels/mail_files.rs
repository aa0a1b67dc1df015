//! Mail as files, for an installation without a mail server: nothing is lost, and any mail program opens them.
//!
//! Where: a directory, by default `mail/` beside the database. How: the very mail that SMTP would carry, one file a
//! notification, `20261121T210000.000Z-alert-<uuid>.eml`, whole or not there at all, on disk when it counts as
//! delivered. The name comes from the row alone: the same notification delivered again overwrites its own file.
//!
//! It fails temporarily while the directory cannot be written to or is full, and for good where no mail can be made
//! (an address that is none). It deletes nothing: files are the installation's to keep or to prune.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use watchbell_contract::ConfigFaults;

use super::mime::{Composer, token};
use crate::domain::OutboxRow;
use crate::ports::{Channel, Delivered, DeliveryError};

/// Files written at a time.
const MAX_IN_FLIGHT: usize = 16;

/// How mail is written.
#[derive(Debug, Clone)]
pub struct MailFilesSettings {
    /// The directory; it is made when needed.
    pub dir: PathBuf,
    /// `mail.from`: an address, or `Name <address>`.
    pub from: String,
    /// `public_url`: where people reach the pages that mails link to.
    pub public_url: Option<String>,
}

/// Delivers notifications as `.eml` files.
pub struct MailFiles {
    dir: PathBuf,
    composer: Composer,
}

impl MailFiles {
    /// A channel that is ready for use. Nothing is written yet.
    ///
    /// # Errors
    /// All that is wrong with the settings, each with its key and a hint.
    pub fn new(settings: MailFilesSettings) -> Result<Self, ConfigFaults> {
        let composer = Composer::new(&settings.from, settings.public_url.as_deref())?;
        Ok(Self { dir: settings.dir, composer })
    }
}

#[async_trait]
impl Channel for MailFiles {
    async fn deliver(&self, message: &OutboxRow) -> Result<Delivered, DeliveryError> {
        let mail = self.composer.compose(message)?;
        let path = self.dir.join(file_name(message));
        let target = path.clone();
        let written = tokio::task::spawn_blocking(move || write_whole(&target, mail.text.as_bytes())).await;
        match written.map_err(io::Error::other).and_then(|written| written) {
            Ok(()) => Ok(Delivered { answer: format!("written to {}", path.display()), external_id: None }),
            Err(error) => Err(DeliveryError::Unavailable {
                reason: format!("the mail cannot be written to `{}`: {error}", path.display()),
                after: None,
            }),
        }
    }

    fn max_in_flight(&self) -> usize {
        MAX_IN_FLIGHT
    }

    fn describe(&self) -> String {
        format!(".eml files in {}", self.dir.display())
    }
}

/// The whole uuid, not its beginning: of databases that make uuids by time, many rows share that.
fn file_name(row: &OutboxRow) -> String {
    format!("{}-{}-{}.eml", row.created_at.format("%Y%m%dT%H%M%S%.3fZ"), row.notification_type, token(&row.uuid))
}

fn write_whole(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let (Some(dir), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::Error::other("it is no file in a directory"));
    };
    fs::create_dir_all(dir)?;
    // With the process id, so that two nodes over one directory do not write into each other's file.
    let draft = dir.join(format!(".{}.{}.tmp", name.to_string_lossy(), std::process::id()));
    let written = write_synced(&draft, bytes).and_then(|()| fs::rename(&draft, path));
    if written.is_err() {
        // The first failure is the one to report; a draft that stays is overwritten by the next attempt.
        drop(fs::remove_file(&draft));
    }
    written?;
    // The name is on disk only once the directory is.
    File::open(dir)?.sync_all()
}

fn write_synced(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use super::{MailFiles, MailFilesSettings};
    use crate::channels::mime::samples::alert;
    use crate::ports::{Channel, DeliveryError};

    fn channel(dir: &Path) -> MailFiles {
        let from = "Watchbell <watchbell@example.com>".to_owned();
        MailFiles::new(MailFilesSettings { dir: dir.to_owned(), from, public_url: None }).unwrap()
    }

    fn files(dir: &Path) -> Vec<PathBuf> {
        std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect()
    }

    #[tokio::test]
    async fn a_repeat_overwrites_its_own_file_and_another_does_not() {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path().join("deep/mail");
        let mut row = alert();
        for _ in 0..2 {
            channel(&dir).deliver(&row).await.unwrap();
        }
        assert_eq!(files(&dir).len(), 1);
        let name = files(&dir)[0].file_name().unwrap().to_str().unwrap().to_owned();
        assert_eq!(name, format!("20261121T210000.123Z-alert-{}.eml", row.uuid));
        assert!(std::fs::read_to_string(dir.join(&name)).unwrap().contains("Subject: [Monitor ALERT] Orders\r\n"));
        row.uuid.replace_range(35.., "0");
        channel(&dir).deliver(&row).await.unwrap();
        assert_eq!(files(&dir).len(), 2);
    }

    #[tokio::test]
    async fn a_directory_that_cannot_be_written_to_is_tried_again_and_leaves_nothing() {
        let temp = tempfile::tempdir().unwrap();
        let in_the_way = temp.path().join("mail");
        std::fs::write(&in_the_way, "a file").unwrap();
        let error = channel(&in_the_way).deliver(&alert()).await.unwrap_err();
        assert!(matches!(&error, DeliveryError::Unavailable { reason, .. } if reason.contains("mail")), "{error:?}");
        // The final name is taken by a directory: the draft is written, and taken away again.
        let dir = temp.path().join("other");
        let taken = dir.join(super::file_name(&alert()));
        std::fs::create_dir_all(taken.join("full")).unwrap();
        assert!(matches!(channel(&dir).deliver(&alert()).await, Err(DeliveryError::Unavailable { .. })));
        assert_eq!(files(&dir), [taken]);
    }

    #[tokio::test]
    async fn a_full_disk_is_tried_again() {
        // Every write to /dev/full fails as on a full disk.
        let temp = tempfile::tempdir().unwrap();
        let draft = temp.path().join(format!(".{}.{}.tmp", super::file_name(&alert()), std::process::id()));
        std::os::unix::fs::symlink("/dev/full", &draft).unwrap();
        let error = channel(temp.path()).deliver(&alert()).await.unwrap_err();
        assert!(matches!(&error, DeliveryError::Unavailable { reason, .. } if reason.contains("space")), "{error:?}");
        assert_eq!(files(temp.path()), Vec::<PathBuf>::new());
    }

    #[tokio::test]
    async fn an_address_that_is_none_is_given_up() {
        let temp = tempfile::tempdir().unwrap();
        let mut row = alert();
        row.recipient = "nobody".to_owned();
        assert!(matches!(channel(temp.path()).deliver(&row).await, Err(DeliveryError::Permanent { .. })));
    }
}
