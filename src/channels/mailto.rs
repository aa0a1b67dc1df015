//! Mail as a row of `channels`: for an address that is to have a name, quiet hours or a limit.
//!
//! It is the installation's mail, as for any recipient that is an address.

use std::sync::Arc;

use async_trait::async_trait;
use email_address::EmailAddress;
use watchbell_contract::ConfigFaults;

use super::channel_type::{ChannelSettings, ChannelType};
use super::url::ChannelUrl;
use crate::domain::OutboxRow;
use crate::ports::{Channel, Delivered, DeliveryError};

pub(super) static TYPE: ChannelType = ChannelType {
    name: "mailto",
    other_names: &[],
    delivers: "Mail to one address, over the installation's `mail.url`; as a channel it can have quiet hours and a limit.",
    address: Some("an e-mail address"),
    options: &[],
    examples: &["mailto:ops@example.com"],
    doubles: "As e-mail: not idempotent, but both copies have one Message-ID.",
    limits: "One address a channel.",
    open,
};

struct MailTo {
    mail: Arc<dyn Channel>,
    address: String,
}

fn open(mut url: ChannelUrl, settings: &ChannelSettings) -> Result<Arc<dyn Channel>, ConfigFaults> {
    let address = url.plain_address();
    if let Err(error) = EmailAddress::parse_with_options(&address, crate::domain::address_options()) {
        url.fault(
            "url",
            format!("holds no e-mail address ({error})"),
            Some("for example `mailto:ops@example.com`".to_owned()),
        );
    }
    Ok(url.finish(MailTo { mail: settings.mail.clone(), address })?)
}

#[async_trait]
impl Channel for MailTo {
    async fn deliver(&self, message: &OutboxRow) -> Result<Delivered, DeliveryError> {
        self.mail.deliver(&OutboxRow { recipient: self.address.clone(), ..message.clone() }).await
    }

    fn describe(&self) -> String {
        format!("mail to {}", self.address)
    }
}
