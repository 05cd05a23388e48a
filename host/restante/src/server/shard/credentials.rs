//! What users authenticate with changes: in the store first, then for requests.

use restante_deferral::commit::CommitError;
use restante_deferral::model::RecipientKey;
use restante_store::{Record, UserCredentials};
use tokio::sync::oneshot;

use super::{Order, Shard};
use crate::logging::Shortened;

/// A user is to authenticate with something else.
pub struct CredentialsOrder {
    /// Who.
    pub user: RecipientKey,
    /// With what; none: nothing.
    pub credentials: Option<UserCredentials>,
    /// Told when that is durable.
    pub done: oneshot::Sender<Result<(), CommitError>>,
}

impl Shard {
    pub(super) fn change_credentials(&mut self, order: CredentialsOrder) {
        let record = Record::Credentials(order.credentials.clone());
        let (ticket, user) = (self.ticket(), order.user.clone());
        self.orders.insert(ticket.token, Order::Credentials(Box::new(order)));
        if let Err(error) = self.shared.store.save(ticket, user, record)
            && let Some(Order::Credentials(order)) = self.orders.remove(&ticket.token)
        {
            self.credentials_changed(*order, Err(error));
        }
    }

    pub(super) fn credentials_changed(&mut self, order: CredentialsOrder, result: Result<(), CommitError>) {
        let CredentialsOrder { user, credentials, done } = order;
        let result = result.and_then(|()| {
            let set = self.shared.authentication.users.set(&user, credentials.as_ref());
            set.map_err(|taken| {
                tracing::error!(tenant = %user.tenant, %taken, "the credentials were stored but cannot be used");
                CommitError::Failed
            })
        });
        if result.is_ok() {
            let has_any = credentials.is_some();
            tracing::info!(tenant = %user.tenant, user = %Shortened(&user.address.0), has_any, "credentials changed");
        }
        let _ = done.send(result);
    }
}
