//! Where a story takes place: what is different from usual.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::pin;
use std::task::Poll;

use restante::configuration::{Configuration, Tenant};
use restante_transport::Protocol;

use crate::world::World;

type Change = Box<dyn FnOnce(&mut Configuration)>;

/// What is different from usual.
pub struct Setting {
    pub(crate) changes: Vec<Change>,
    pub(crate) host: IpAddr,
    pub(crate) is_held: bool,
    pub(crate) is_administered: bool,
    pub(crate) proxy: Option<Protocol>,
    pub(crate) allows_objections: bool,
    pub(crate) is_encrypted: bool,
    pub(crate) is_media_encrypted: bool,
    pub(crate) takes_web_sockets: bool,
}

/// As usual: one server on 127.0.0.1, reached directly.
#[must_use]
pub fn setting() -> Setting {
    Setting {
        changes: Vec::new(),
        host: IpAddr::V4(Ipv4Addr::LOCALHOST),
        is_held: false,
        is_administered: false,
        proxy: None,
        allows_objections: false,
        is_encrypted: false,
        is_media_encrypted: false,
        takes_web_sockets: false,
    }
}

/// Tells a story where everything is as usual.
pub fn story(tale: impl AsyncFnOnce(&mut World)) {
    setting().tell(tale);
}

impl Setting {
    /// Changes the configuration.
    #[must_use]
    pub fn configure(mut self, change: impl FnOnce(&mut Configuration) + 'static) -> Setting {
        self.changes.push(Box::new(change));
        self
    }

    /// Changes the tenant.
    #[must_use]
    pub fn tenant(self, change: impl FnOnce(&mut Tenant) + 'static) -> Setting {
        self.configure(|configuration| {
            change(configuration.tenants.get_mut("example").expect("the tenant of every story"));
        })
    }

    /// Settings of the policy, as TOML.
    #[must_use]
    pub fn settings(self, settings: &str) -> Setting {
        let settings: toml::Table = settings.parse().expect("settings in TOML");
        self.tenant(|tenant| tenant.settings.extend(settings))
    }

    /// On `::1`.
    #[must_use]
    pub fn ipv6(mut self) -> Setting {
        self.host = IpAddr::V6(Ipv6Addr::LOCALHOST);
        self
    }

    /// On `::1`, or where it is usually.
    #[must_use]
    pub fn on_ipv6(self, is_ipv6: bool) -> Setting {
        if is_ipv6 { self.ipv6() } else { self }
    }

    /// Commits can be held back: [`World::held`].
    #[must_use]
    pub fn held(mut self) -> Setting {
        self.is_held = true;
        self
    }

    /// With the administration interface: [`World::administration`].
    #[must_use]
    pub fn administered(mut self) -> Setting {
        self.is_administered = true;
        self
    }

    /// Everything goes through a proxy: [`World::proxy`].
    #[must_use]
    pub fn behind_proxy(mut self, transport: Protocol) -> Setting {
        self.proxy = Some(transport);
        self
    }

    /// With a listener for TLS, whose certificate [`World::authority`] signed for `sip.example.org` and the host's address:
    /// [`World::tls`]. What clients show is signed by the same.
    #[must_use]
    pub fn encrypted(mut self) -> Setting {
        self.is_encrypted = true;
        self
    }

    /// The same, and MSRP is spoken over TLS alone.
    #[must_use]
    pub fn encrypted_media(mut self) -> Setting {
        self.is_media_encrypted = true;
        self.encrypted()
    }

    /// The same as [`Setting::encrypted`], and with listeners for WebSocket.
    #[must_use]
    pub fn web(mut self) -> Setting {
        self.takes_web_sockets = true;
        self.encrypted()
    }

    /// Clients may object to what they receive: they are made to misbehave so that the server's answers look odd to them.
    #[must_use]
    pub fn allow_objections(mut self) -> Setting {
        self.allows_objections = true;
        self
    }

    /// Tells the story, and ends everything in it whether it went well or not.
    ///
    /// # Panics
    /// The story does, or a client objected to what it received.
    pub fn tell(self, tale: impl AsyncFnOnce(&mut World)) {
        log_if_asked();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let mut world = World::make(self).await;
            let ended = {
                let mut tale = pin!(tale(&mut world));
                let guarded = std::future::poll_fn(|context| {
                    match catch_unwind(AssertUnwindSafe(|| tale.as_mut().poll(context))) {
                        Ok(poll) => poll.map(Ok),
                        Err(panic) => Poll::Ready(Err(panic)),
                    }
                });
                guarded.await
            };
            let objections = world.end().await;
            match ended {
                Ok(()) => assert_eq!(objections, [""; 0], "clients objected"),
                Err(panic) => resume_unwind(panic),
            }
        });
    }
}

/// `RESTANTE_LOG=debug` shows what the server does.
fn log_if_asked() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    if std::env::var_os("RESTANTE_LOG").is_some() {
        ONCE.call_once(|| restante::logging::start(&Default::default()).expect("a log"));
    }
}
