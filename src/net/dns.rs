//! One question to one name server, without a memory: an authority is asked by itself, and a resolver for what it says now.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use hickory_resolver::proto::op::{Edns, Message, MessageType, Query, ResponseCode};
use hickory_resolver::proto::rr::{Name, RecordType};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::{Instant, timeout, timeout_at};

/// How long a server may take over one packet, and how often it is sent.
const PACKET_TIMEOUT: Duration = Duration::from_millis(1_500);
const PACKETS: usize = 2;
/// How long an answer by TCP may take.
const STREAM_TIMEOUT: Duration = Duration::from_secs(4);
/// The most bytes of an answer by UDP: what passes everywhere in one piece (RFC 9715).
const PAYLOAD: u16 = 1_232;

/// Why nothing came that says anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoAnswer {
    /// Nothing in time.
    Silent,
    /// No way, or nobody at the port.
    Unreachable,
    /// Something that cannot be read, or a question that cannot be asked.
    Garbled,
    /// The policy does not let us ask at this address.
    NotAllowed,
}

/// How a server is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// For what it knows itself.
    Authority,
    /// For what it finds out.
    Resolver,
    /// For what it finds out, whatever it thinks of signatures (RFC 4035 §3.2.2).
    Unchecked,
}

/// Asks one server one question, by UDP, and by TCP where the answer does not fit. It takes [`PACKETS`] times
/// [`PACKET_TIMEOUT`] and [`STREAM_TIMEOUT`] at most. The caller has held the address against the policy.
///
/// # Errors
/// That nothing came; an answer that is a refusal is an answer.
pub(super) async fn ask(
    server: SocketAddr,
    name: &str,
    kind: RecordType,
    manner: Manner,
) -> Result<Message, NoAnswer> {
    let question = question(name, kind, manner).ok_or(NoAnswer::Garbled)?;
    let mut answer = exchange(server, &question).await?;
    if matches!(answer.metadata.response_code, ResponseCode::FormErr | ResponseCode::NotImp) {
        // A server from before EDNS (RFC 6891 §6.2.2).
        let mut plain = question;
        plain.edns = None;
        answer = exchange(server, &plain).await?;
    }
    Ok(answer)
}

fn question(name: &str, kind: RecordType, manner: Manner) -> Option<Message> {
    let mut question = Message::query();
    question.metadata.recursion_desired = manner != Manner::Authority;
    question.metadata.checking_disabled = manner == Manner::Unchecked;
    let name = Name::from_ascii(format!("{}.", name.trim_end_matches('.'))).ok()?;
    question.add_query(Query::query(name, kind));
    let mut edns = Edns::new();
    edns.set_max_payload(PAYLOAD);
    question.set_edns(edns);
    Some(question)
}

async fn exchange(server: SocketAddr, question: &Message) -> Result<Message, NoAnswer> {
    let packet = question.to_vec().map_err(|_| NoAnswer::Garbled)?;
    let answer = by_udp(server, question, &packet).await?;
    if !answer.metadata.truncation {
        return Ok(answer);
    }
    let by_tcp = timeout(STREAM_TIMEOUT, by_tcp(server, question, &packet));
    by_tcp.await.unwrap_or(Err(NoAnswer::Silent))
}

async fn by_udp(server: SocketAddr, question: &Message, packet: &[u8]) -> Result<Message, NoAnswer> {
    let from: IpAddr =
        if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let mut worst = NoAnswer::Silent;
    for _ in 0..PACKETS {
        // A port of its own for each packet, so that nobody can guess where an answer is waited for.
        let socket = UdpSocket::bind((from, 0)).await.map_err(|_| NoAnswer::Unreachable)?;
        // Only what comes from there is heard.
        socket.connect(server).await.map_err(|_| NoAnswer::Unreachable)?;
        if socket.send(packet).await.is_err() {
            worst = NoAnswer::Unreachable;
            continue;
        }
        let end = Instant::now() + PACKET_TIMEOUT;
        let mut buffer = vec![0; usize::from(u16::MAX)];
        loop {
            match timeout_at(end, socket.recv(&mut buffer)).await {
                Ok(Ok(length)) => match read(question, buffer.get(..length).unwrap_or_default()) {
                    Some(Ok(answer)) => return Ok(answer),
                    Some(Err(garbled)) => worst = garbled,
                    // An answer to something else.
                    None => {}
                },
                Ok(Err(error)) => {
                    let gone = [
                        ErrorKind::ConnectionRefused,
                        ErrorKind::HostUnreachable,
                        ErrorKind::NetworkUnreachable,
                    ];
                    if gone.contains(&error.kind()) {
                        worst = NoAnswer::Unreachable;
                    }
                    break;
                }
                Err(_) => break,
            }
        }
    }
    Err(worst)
}

async fn by_tcp(server: SocketAddr, question: &Message, packet: &[u8]) -> Result<Message, NoAnswer> {
    let unreachable = |_| NoAnswer::Unreachable;
    let mut stream = TcpStream::connect(server).await.map_err(unreachable)?;
    let length = u16::try_from(packet.len()).map_err(|_| NoAnswer::Garbled)?;
    let framed = [&length.to_be_bytes()[..], packet].concat();
    stream.write_all(&framed).await.map_err(unreachable)?;
    let length = stream.read_u16().await.map_err(unreachable)?;
    let mut answer = vec![0; usize::from(length)];
    stream.read_exact(&mut answer).await.map_err(unreachable)?;
    read(question, &answer).unwrap_or(Err(NoAnswer::Garbled))
}

/// The answer in a packet; `None` where it is not one to this question.
fn read(question: &Message, packet: &[u8]) -> Option<Result<Message, NoAnswer>> {
    let id = packet.get(..2)?;
    if id != question.metadata.id.to_be_bytes() {
        return None;
    }
    let Ok(answer) = Message::from_vec(packet) else { return Some(Err(NoAnswer::Garbled)) };
    // A server that refuses may leave the question out.
    let same = answer.queries.is_empty() || answer.queries == question.queries;
    (answer.metadata.message_type == MessageType::Response && same).then_some(Ok(answer))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server that answers each packet with what is made of it, the first time with several packets.
    async fn server(answers: impl Fn(Message) -> Vec<Vec<u8>> + Send + 'static) -> SocketAddr {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        tokio::spawn(async move {
            let mut buffer = [0; 4096];
            while let Ok((length, from)) = socket.recv_from(&mut buffer).await {
                for answer in answers(Message::from_vec(&buffer[..length]).unwrap()) {
                    socket.send_to(&answer, from).await.unwrap();
                }
            }
        });
        address
    }

    fn answer(question: &Message) -> Message {
        let mut answer = Message::response(question.metadata.id, question.metadata.op_code);
        answer.queries.clone_from(&question.queries);
        answer
    }

    #[tokio::test]
    async fn only_an_answer_to_the_question_is_one() {
        let address = server(|question| {
            let mut guessed = answer(&question);
            guessed.metadata.id = question.metadata.id.wrapping_add(1);
            let mut other = answer(&question);
            other.queries[0].set_query_type(RecordType::A);
            let mut right = answer(&question);
            right.metadata.authoritative = true;
            [guessed, other, right].iter().map(|message| message.to_vec().unwrap()).collect()
        })
        .await;
        let heard = ask(address, "a.test", RecordType::MX, Manner::Authority).await.unwrap();
        assert!(heard.metadata.authoritative);
        let garbled =
            server(|question| vec![[&question.metadata.id.to_be_bytes()[..], &[0x80]].concat()]).await;
        let heard = ask(garbled, "a.test", RecordType::MX, Manner::Authority).await;
        assert_eq!(heard.unwrap_err(), NoAnswer::Garbled);
        let nobody = UdpSocket::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let heard = ask(nobody, "a.test", RecordType::MX, Manner::Authority).await;
        assert_eq!(heard.unwrap_err(), NoAnswer::Unreachable);
    }

    #[tokio::test]
    async fn a_server_from_before_edns_is_asked_without() {
        let address = server(|question| {
            let mut said = answer(&question);
            said.metadata.recursion_available = question.metadata.recursion_desired;
            if question.edns.is_some() {
                said.metadata.response_code = ResponseCode::FormErr;
            }
            vec![said.to_vec().unwrap()]
        })
        .await;
        let heard = ask(address, "a.test", RecordType::MX, Manner::Authority).await.unwrap();
        assert_eq!(heard.metadata.response_code, ResponseCode::NoError);
        assert!(!heard.metadata.recursion_available, "an authority is not asked to look elsewhere");
        let heard = ask(address, "a.test", RecordType::MX, Manner::Unchecked).await.unwrap();
        assert!(heard.metadata.recursion_available);
    }
}
