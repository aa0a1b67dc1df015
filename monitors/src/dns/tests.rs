//! The kind `dns` against a resolver of the test's own.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use hickory_resolver::proto::op::{Message, OpCode, Query, ResponseCode};
use hickory_resolver::proto::rr::rdata::{A, AAAA, CAA, CNAME, MX, NS, PTR, SOA, SRV, TXT};
use hickory_resolver::proto::rr::{Name, RData, Record, RecordType};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, UdpSocket};
use tokio::time::Instant;
use watchbell_contract::{ConfigReader, Monitor, Outcome, testing};

use super::ask::{Answer, Transport, ask_in_turn};
use super::{Dns, complete_name};

const LONG: Duration = Duration::from_secs(10);

/// A name server on UDP and TCP, with one port for both, and a count of the questions on each.
struct Server {
    address: SocketAddr,
    udp_questions: Arc<AtomicUsize>,
    tcp_questions: Arc<AtomicUsize>,
}

async fn server() -> Server {
    // The port is free for UDP and nearly always for TCP too.
    let (udp, tcp) = loop {
        let udp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        if let Ok(tcp) = TcpListener::bind(udp.local_addr().unwrap()).await {
            break (udp, tcp);
        }
    };
    let address = udp.local_addr().unwrap();
    let (udp_questions, tcp_questions) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    tokio::spawn(serve_udp(udp, udp_questions.clone()));
    tokio::spawn(serve_tcp(tcp, tcp_questions.clone()));
    Server { address, udp_questions, tcp_questions }
}

async fn serve_udp(socket: UdpSocket, questions: Arc<AtomicUsize>) {
    let mut buffer = [0; 4096];
    loop {
        let (length, from) = socket.recv_from(&mut buffer).await.unwrap();
        questions.fetch_add(1, Ordering::SeqCst);
        let question = Message::from_vec(&buffer[..length]).unwrap();
        if question.queries[0].name().to_ascii() == "garbage.test." {
            let garbage = [&buffer[..2], &[0xff; 3]].concat();
            socket.send_to(&garbage, from).await.unwrap();
        } else if let Some(reply) = reply(&question, true) {
            socket.send_to(&reply.to_vec().unwrap(), from).await.unwrap();
        }
    }
}

async fn serve_tcp(listener: TcpListener, questions: Arc<AtomicUsize>) {
    loop {
        let (mut stream, _) = listener.accept().await.unwrap();
        let Ok(length) = stream.read_u16().await else { continue };
        questions.fetch_add(1, Ordering::SeqCst);
        let mut bytes = vec![0; length.into()];
        stream.read_exact(&mut bytes).await.unwrap();
        let Some(reply) = reply(&Message::from_vec(&bytes).unwrap(), false) else {
            // Open, but silent, until the other side gives up.
            stream.read_u8().await.ok();
            continue;
        };
        let bytes = reply.to_vec().unwrap();
        stream.write_u16(u16::try_from(bytes.len()).unwrap()).await.unwrap();
        stream.write_all(&bytes).await.unwrap();
    }
}

/// A port on which nothing listens, and which nobody else is given while the socket lives.
fn closed_port() -> (TcpSocket, SocketAddr) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = socket.local_addr().unwrap();
    (socket, address)
}

fn name(text: &str) -> Name {
    Name::from_ascii(text).unwrap()
}

/// What this server knows. `None`: it keeps silent.
fn reply(question: &Message, over_udp: bool) -> Option<Message> {
    let query: &Query = &question.queries[0];
    let asked = query.name().to_ascii();
    let mut reply = Message::response(question.id, OpCode::Query);
    reply.add_query(query.clone());
    let mut answer = |data| {
        reply.add_answer(Record::from_rdata(query.name().clone(), 60, data));
    };
    let mut code = ResponseCode::NoError;
    let mut is_truncated = false;
    match (asked.as_str(), query.query_type()) {
        ("web.test.", RecordType::A) => {
            answer(RData::A(A::new(192, 0, 2, 2)));
            answer(RData::A(A::new(192, 0, 2, 1)));
        }
        ("web.test.", RecordType::AAAA) => answer(RData::AAAA(AAAA("2001:db8::1".parse().unwrap()))),
        ("alias.test.", RecordType::A) => {
            answer(RData::CNAME(CNAME(name("Web.test."))));
            reply.add_answer(Record::from_rdata(name("web.test."), 60, RData::A(A::new(192, 0, 2, 1))));
        }
        ("alias.test.", RecordType::CNAME) => answer(RData::CNAME(CNAME(name("Web.test.")))),
        ("lame-alias.test.", _) => answer(RData::CNAME(CNAME(name("gone.test.")))),
        ("test.", RecordType::MX) => {
            answer(RData::MX(MX::new(10, name("mx1.test."))));
            answer(RData::MX(MX::new(20, name("MX2.test."))));
        }
        ("test.", RecordType::NS) => answer(RData::NS(NS(name("ns.test.")))),
        ("test.", RecordType::TXT) => answer(RData::TXT(TXT::from_bytes(vec![b"v=spf1 ", b"-all"]))),
        ("test.", RecordType::SOA) => {
            answer(RData::SOA(SOA::new(name("ns.test."), name("host.test."), 7, 1, 2, 3, 4)));
        }
        ("test.", RecordType::CAA) => answer(RData::CAA(CAA::new_issue(false, Some(name("ca.test")), vec![]))),
        ("_ldap._tcp.test.", RecordType::SRV) => answer(RData::SRV(SRV::new(1, 2, 389, name("web.test.")))),
        ("1.2.0.192.in-addr.arpa.", RecordType::PTR) => answer(RData::PTR(PTR(name("web.test.")))),
        ("localhost." | "single.", RecordType::A) => answer(RData::A(A::new(192, 0, 2, 9))),
        ("big.test.", RecordType::A) if over_udp => is_truncated = true,
        ("big.test.", RecordType::A) => (1..=12).for_each(|last| answer(RData::A(A::new(192, 0, 2, last)))),
        ("empty.test." | "test.", _) => {}
        ("gone-alias.test.", _) => {
            code = ResponseCode::NXDomain;
            answer(RData::CNAME(CNAME(name("gone.test."))));
        }
        ("servfail.test.", _) => code = ResponseCode::ServFail,
        ("refused.test.", _) => code = ResponseCode::Refused,
        ("notimp.test.", _) => code = ResponseCode::NotImp,
        ("silent.test.", _) => return None,
        _ => code = ResponseCode::NXDomain,
    }
    reply.metadata.response_code = code;
    reply.metadata.truncation = is_truncated;
    Some(reply)
}

async fn ask_server(server: &Server, config: Value) -> Result<Outcome, String> {
    ask_within(server.address, config, LONG).await
}

async fn ask_within(server: SocketAddr, mut config: Value, timeout: Duration) -> Result<Outcome, String> {
    let object = config.as_object_mut().unwrap();
    object.insert("resolver".into(), json!(server.to_string()));
    let check = Dns.prepare(ConfigReader::without_secrets(Dns.manifest(), object)).map_err(|f| f.to_string()).unwrap();
    check.check(&testing::context(timeout)).await.map_err(|error| format!("{error:#}"))
}

fn faults(config: Value) -> String {
    let reader = ConfigReader::without_secrets(Dns.manifest(), config.as_object().unwrap());
    Dns.prepare(reader).err().map(|faults| faults.to_string()).unwrap_or_default()
}

#[tokio::test]
async fn it_conforms() {
    testing::exercise(&Dns).await;
}

#[tokio::test]
async fn records_are_ok_and_told_in_a_fixed_order() {
    let server = server().await;
    let outcome = ask_server(&server, json!({"name": "web.test"})).await.unwrap();
    assert!(outcome.is_ok, "{outcome:?}");
    let begin = format!("A of `web.test` is `192.0.2.1`, `192.0.2.2` according to {}, in ", server.address);
    assert!(outcome.message.starts_with(&begin), "{outcome:?}");
    assert_eq!(outcome.metrics["record_count"], 2.0);
    assert!(outcome.metrics["response_ms"] > 0.0);
}

#[tokio::test]
async fn every_type_is_compared() {
    let server = server().await;
    for (asked, record_type, expected) in [
        ("web.test", "A", json!(["192.0.2.1", "192.0.2.2"])),
        ("web.test", "AAAA", json!(["2001:0db8:0::1"])),
        ("alias.test", "A", json!("192.0.2.1")),
        ("alias.test", "CNAME", json!("web.TEST.")),
        ("test", "MX", json!(["10 mx1.test.", "mx2.test"])),
        ("test", "NS", json!("ns.test")),
        ("test", "TXT", json!("v=spf1 -all")),
        ("test", "SOA", json!("ns.test host.test")),
        ("test", "CAA", json!("0 issue \"ca.test\"")),
        ("_ldap._tcp.test", "SRV", json!("1 2 389 web.test")),
        ("192.0.2.1", "PTR", json!("web.test")),
        ("1.2.0.192.in-addr.arpa.", "PTR", json!("web.test")),
    ] {
        for key in ["expect", "expect_exactly"] {
            let config = json!({"name": asked, "type": record_type, key: expected});
            let outcome = ask_server(&server, config).await.unwrap();
            assert!(outcome.is_ok, "{outcome:?}");
        }
    }
}

#[tokio::test]
async fn missing_and_surplus_values_fail() {
    let server = server().await;
    let config = json!({"name": "web.test", "expect": ["192.0.2.1", "192.0.2.7"]});
    let outcome = ask_server(&server, config).await.unwrap();
    assert!(!outcome.is_ok && outcome.severity.is_none());
    assert!(outcome.message.ends_with(": expected but missing: `192.0.2.7`"), "{outcome:?}");

    let config = json!({"name": "web.test", "expect_exactly": ["192.0.2.1", "192.0.2.7"]});
    let outcome = ask_server(&server, config).await.unwrap();
    assert!(outcome.message.ends_with(": expected but missing: `192.0.2.7`; not expected: `192.0.2.2`"), "{outcome:?}");

    assert!(ask_server(&server, json!({"name": "web.test", "expect": ["192.0.2.1"]})).await.unwrap().is_ok);
    assert!(!ask_server(&server, json!({"name": "web.test", "expect_exactly": ["192.0.2.1"]})).await.unwrap().is_ok);
}

#[tokio::test]
async fn too_few_records_fail() {
    let server = server().await;
    assert!(ask_server(&server, json!({"name": "web.test", "min_count": 2})).await.unwrap().is_ok);
    let outcome = ask_server(&server, json!({"name": "web.test", "min_count": 3})).await.unwrap();
    assert!(!outcome.is_ok && outcome.message.ends_with("2 records, less than the 3 of `min_count`"), "{outcome:?}");
}

#[tokio::test]
async fn slowness_fails() {
    let server = server().await;
    let outcome = ask_server(&server, json!({"name": "web.test", "max_response_ms": 0.001})).await.unwrap();
    assert!(!outcome.is_ok && outcome.message.contains("more than the 0.001 ms of `max_response_ms`"), "{outcome:?}");
}

#[tokio::test]
async fn what_is_not_there_is_told_apart() {
    let server = server().await;
    for (asked, told) in [
        ("missing.test", "the name does not exist (NXDOMAIN)"),
        ("gone-alias.test", "the name does not exist (NXDOMAIN)"),
        ("empty.test", "the name exists, but has no A record there"),
        ("lame-alias.test", "the name is an alias for `gone.test`, for which it gives no A record"),
    ] {
        let outcome = ask_server(&server, json!({"name": asked})).await.unwrap();
        assert!(!outcome.is_ok && outcome.severity.is_none(), "{outcome:?}");
        let begin = format!("A of `{asked}` is unknown to {}: {told}", server.address);
        assert!(outcome.message.starts_with(&begin), "{outcome:?}");
        assert_eq!(outcome.metrics["record_count"], 0.0);
    }
}

#[tokio::test]
async fn failures_of_the_server_are_told_apart() {
    let server = server().await;
    for (asked, told) in [
        ("servfail.test", "fails (SERVFAIL): "),
        ("refused.test", "refuses (REFUSED): "),
        ("notimp.test", "answers with an error: "),
        ("garbage.test", "answers with what is no DNS: "),
    ] {
        let error = ask_server(&server, json!({"name": asked})).await.unwrap_err();
        let begin = format!("no answer to A of `{asked}`: {} {told}", server.address);
        assert!(error.starts_with(&begin), "{begin} is missing in {error}");
    }
}

#[tokio::test]
async fn silence_is_reported_in_time() {
    let server = server().await;
    let limit = Duration::from_secs(1);
    for protocol in ["udp", "tcp"] {
        let config = json!({"name": "silent.test", "protocol": protocol});
        let asked = tokio::time::timeout(limit, ask_within(server.address, config, limit)).await;
        let error = asked.expect("it reports before its time is up").unwrap_err();
        let told = if protocol == "udp" { "nothing listens there" } else { "hangs" };
        let told = format!("{} does not answer within 0.9 s (it is down, {told}, or", server.address);
        assert!(error.contains(&told), "{told} is missing in {error}");
    }
}

#[tokio::test]
async fn a_closed_port_is_told_over_tcp() {
    let (_socket, closed) = closed_port();
    let error = ask_within(closed, json!({"name": "web.test", "protocol": "tcp"}), LONG).await.unwrap_err();
    assert!(error.contains("cannot be connected to (nothing listens on this port, "), "{error}");
}

#[tokio::test]
async fn the_protocol_is_kept() {
    let server = server().await;
    let count = |counter: &AtomicUsize| counter.load(Ordering::SeqCst);
    assert!(ask_server(&server, json!({"name": "web.test", "protocol": "tcp"})).await.unwrap().is_ok);
    assert_eq!((count(&server.udp_questions), count(&server.tcp_questions)), (0, 1));
    assert!(ask_server(&server, json!({"name": "web.test", "protocol": "udp"})).await.unwrap().is_ok);
    assert_eq!((count(&server.udp_questions), count(&server.tcp_questions)), (1, 1));
}

#[tokio::test]
async fn a_long_answer_comes_over_tcp_and_is_shortened() {
    let server = server().await;
    let outcome = ask_server(&server, json!({"name": "big.test", "min_count": 12})).await.unwrap();
    assert!(outcome.is_ok && outcome.message.contains("and 2 more according to"), "{outcome:?}");
    let error = ask_server(&server, json!({"name": "big.test", "protocol": "udp"})).await.unwrap_err();
    assert!(error.contains("too long for UDP"), "{error}");
}

#[tokio::test]
async fn every_check_asks_the_server_itself() {
    let server = server().await;
    // A name that resolvers answer by themselves, one without a dot, each asked twice.
    for _ in 0..2 {
        for asked in ["localhost", "single"] {
            let outcome = ask_server(&server, json!({"name": asked, "expect_exactly": "192.0.2.9"})).await.unwrap();
            assert!(outcome.is_ok, "{outcome:?}");
        }
    }
    assert_eq!(server.udp_questions.load(Ordering::SeqCst), 4);
}

#[tokio::test]
async fn the_next_server_is_asked_and_the_failure_is_kept() {
    let good = server().await;
    let (_socket, closed) = closed_port();
    let servers = [closed, good.address];
    let name = complete_name("web.test").unwrap();
    let deadline = Instant::now() + LONG;
    let answered = ask_in_turn(&name, RecordType::A, &servers, Transport::Tcp, deadline).await.unwrap();
    assert!(matches!(&answered.answer, Answer::Values(values) if values.len() == 2), "{answered:?}");
    assert_eq!(answered.server, good.address);
    assert!(answered.failures[0].starts_with(&format!("{closed} cannot be connected to")));
}

#[test]
fn bad_configs_are_refused_with_every_fault() {
    let text = faults(json!({
        "name": "a..b", "type": "mx", "expect": ["300.0.0.1"], "expect_exactly": [], "min_count": 0,
        "resolver": "dns.test", "protocol": "tls", "max_response_ms": 0
    }));
    for part in [
        "config.name: `a..b` is no domain name",
        "config.type: expected one of",
        "config.expect: `300.0.0.1` cannot be the value of an A record",
        "config.expect_exactly: lists nothing",
        "config.expect_exactly: stands beside `expect`",
        "config.min_count: expected a whole number from 1",
        "config.resolver: `dns.test` is no address of a name server",
        "config.protocol: expected one of",
        "config.max_response_ms: must be more than 0",
    ] {
        assert!(text.contains(part), "{part} is missing in: {text}");
    }
    assert!(faults(json!({"name": "192.0.2.1"})).contains("set \"type\": \"PTR\""));
    assert_eq!(faults(json!({})), "config.name: is required (hint: see `watchbell kinds dns`)");
}

#[test]
fn a_resolver_may_have_a_port() {
    for (text, address) in [
        ("192.0.2.53", "192.0.2.53:53"),
        ("192.0.2.53:5353", "192.0.2.53:5353"),
        ("2001:db8::53", "[2001:db8::53]:53"),
        ("[2001:db8::53]:5353", "[2001:db8::53]:5353"),
    ] {
        let config = json!({"resolver": text});
        let mut reader = ConfigReader::without_secrets(Dns.manifest(), config.as_object().unwrap());
        assert_eq!(super::read_resolver(&mut reader).unwrap().to_string(), address);
    }
    assert!(faults(json!({"name": "a", "resolver": "192.0.2.53:0"})).contains("config.resolver"));
}
