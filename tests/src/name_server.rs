//! A name server for stories: a zone in memory, asked over UDP.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use hickory_resolver::proto::op::{Message, ResponseCode};
use hickory_resolver::proto::rr::rdata::{A, AAAA, NAPTR, SRV};
use hickory_resolver::proto::rr::{Name, RData, Record, RecordType};
use tokio::net::UdpSocket;
use tokio::task::JoinHandle;

/// How long its records hold in most stories, in seconds.
const TIME_TO_LIVE: u32 = 1;

/// The server. It ends with the value.
pub struct NameServer {
    address: SocketAddr,
    zone: Arc<Mutex<Zone>>,
    task: JoinHandle<()>,
}

#[derive(Default)]
struct Zone {
    records: HashMap<(String, RecordType), Vec<RData>>,
    asked: Vec<String>,
    is_silent: bool,
    time_to_live: Option<u32>,
}

impl NameServer {
    /// Starts one on loopback, that knows nothing.
    pub async fn start() -> NameServer {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a socket");
        let address = socket.local_addr().expect("an address");
        let zone = Arc::<Mutex<Zone>>::default();
        let task = tokio::spawn(serve(socket, zone.clone()));
        NameServer { address, zone, task }
    }

    /// Where it is.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The addresses of a host, of either family.
    pub fn set_addresses<T: Into<IpAddr> + Copy>(&self, host: &str, addresses: &[T]) {
        let (mut of_v4, mut of_v6) = (Vec::new(), Vec::new());
        for address in addresses {
            match (*address).into() {
                IpAddr::V4(address) => of_v4.push(RData::A(A(address))),
                IpAddr::V6(address) => of_v6.push(RData::AAAA(AAAA(address))),
            }
        }
        self.set(host, RecordType::A, of_v4);
        self.set(host, RecordType::AAAA, of_v6);
    }

    /// The service of a name, for example `_sip._udp.example.org`: priority, port and host of each place.
    pub fn set_services(&self, name: &str, places: &[(u16, u16, &str)]) {
        let record =
            |(priority, port, host): &(u16, u16, &str)| RData::SRV(SRV::new(*priority, 1, *port, absolute(host)));
        self.set(name, RecordType::SRV, places.iter().map(record).collect());
    }

    /// What a domain points to: order, service and the name of the SRV records.
    pub fn set_pointers(&self, domain: &str, pointers: &[(u16, &str, &str)]) {
        let record = |(order, service, replacement): &(u16, &str, &str)| {
            let bytes = |text: &str| text.as_bytes().into();
            RData::NAPTR(NAPTR::new(*order, 1, bytes("s"), bytes(service), bytes(""), absolute(replacement)))
        };
        self.set(domain, RecordType::NAPTR, pointers.iter().map(record).collect());
    }

    /// Answers nothing from now on, or again.
    pub fn set_silent(&self, is_silent: bool) {
        self.zone().is_silent = is_silent;
    }

    /// Its answers hold for so many seconds from now on.
    pub fn set_time_to_live(&self, seconds: u32) {
        self.zone().time_to_live = Some(seconds);
    }

    /// What it was asked: `A proxy.example.org`.
    #[must_use]
    pub fn asked(&self) -> Vec<String> {
        self.zone().asked.clone()
    }

    fn set(&self, name: &str, kind: RecordType, records: Vec<RData>) {
        self.zone().records.insert((name.to_owned(), kind), records);
    }

    fn zone(&self) -> std::sync::MutexGuard<'_, Zone> {
        self.zone.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(socket: UdpSocket, zone: Arc<Mutex<Zone>>) {
    let mut datagram = [0; 1_500];
    while let Ok((length, from)) = socket.recv_from(&mut datagram).await {
        let answer = Message::from_vec(&datagram[..length]).ok().and_then(|question| zone_answers(&zone, question));
        if let Some(answer) = answer.and_then(|answer| answer.to_vec().ok()) {
            let _ = socket.send_to(&answer, from).await;
        }
    }
}

fn zone_answers(zone: &Mutex<Zone>, question: Message) -> Option<Message> {
    let mut zone = zone.lock().unwrap_or_else(PoisonError::into_inner);
    let query = question.queries.first()?.clone();
    let name = query.name().to_ascii().trim_end_matches('.').to_ascii_lowercase();
    zone.asked.push(format!("{} {name}", query.query_type()));
    if zone.is_silent {
        return None;
    }
    let mut answer = question.into_response();
    match zone.records.get(&(name.clone(), query.query_type())) {
        Some(records) => {
            let time_to_live = zone.time_to_live.unwrap_or(TIME_TO_LIVE);
            let record = |data: &RData| Record::from_rdata(query.name().clone(), time_to_live, data.clone());
            answer.add_answers(records.iter().map(record));
        }
        None if zone.records.keys().any(|(known, _)| *known == name) => {}
        None => answer.metadata.response_code = ResponseCode::NXDomain,
    }
    Some(answer)
}

fn absolute(name: &str) -> Name {
    let mut name = Name::from_ascii(name).expect("a name");
    name.set_fqdn(true);
    name
}
