//! The traits between the core and the world. The engine knows nothing else of databases, servers, clocks and cron.

mod channel;
mod clock;
mod ledger;
mod nodes;
mod pinger;
mod scheduler;
mod store;

pub use channel::{Channel, ChannelSource, Command, Delivered, DeliveryError, Inbox, MailOnly, Received};
pub use clock::{Clock, SystemClock};
pub use ledger::{Ledger, OutboxFilter, Retried, Story, Trial};
pub use nodes::{LiveNode, LiveNodes, NodeIdentity, NodeReport, Renewed};
pub use pinger::{PingError, Pinger};
pub use scheduler::{MissedTicks, OnTick, Scheduler, SchedulerCounters, SchedulerError, StartScheduler};
pub use store::{
    Applied, ChangeCursor, Changes, Columns, ComposeAcknowledgment, DecideWork, DueLane, HistoryStep, LaneClaim,
    NewMonitor, Outlook, PlanNotifications, PlanRequest, Settled, Store, StoreError, Work,
};
