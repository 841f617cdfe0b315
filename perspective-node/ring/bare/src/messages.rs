//! Batches of datagrams for `recvmmsg` and `sendmmsg`.
//!
//! Invariant: the pointers the kernel sees are made anew for each call from memory this value owns, and no call
//! leaves an operation behind, so nothing outlives anything.

use std::io;
use std::os::fd::{AsFd, AsRawFd as _};
use std::ptr::null_mut;

use libc::{MSG_DONTWAIT, MSG_NOSIGNAL, iovec, mmsghdr, msghdr, sockaddr_storage};

/// Up to `count` datagrams of up to `size` octets.
pub(crate) struct Messages {
    octets: Vec<u8>,
    size: usize,
    lengths: Vec<usize>,
    /// Peers, for a socket that is not connected.
    names: Option<Vec<(sockaddr_storage, u32)>>,
    headers: Vec<mmsghdr>,
    vectors: Vec<iovec>,
}

impl Messages {
    /// For connected sockets.
    pub(crate) fn connected(count: usize, size: usize) -> Messages {
        // SAFETY: zero is a valid value of all fields: integers and null pointers.
        let header: mmsghdr = unsafe { std::mem::zeroed() };
        Messages {
            octets: vec![0; count * size],
            size,
            lengths: vec![0; count],
            names: None,
            headers: vec![header; count],
            vectors: vec![iovec { iov_base: null_mut(), iov_len: 0 }; count],
        }
    }

    /// For a socket with many peers: each message has one.
    pub(crate) fn addressed(count: usize, size: usize) -> Messages {
        // SAFETY: zero is a valid value of all fields, which are integers.
        let name: sockaddr_storage = unsafe { std::mem::zeroed() };
        Messages { names: Some(vec![(name, 0); count]), ..Messages::connected(count, size) }
    }

    pub(crate) fn capacity(&self) -> usize {
        self.lengths.len()
    }

    /// The octets of a message.
    pub(crate) fn bytes(&self, index: usize) -> &[u8] {
        let start = index * self.size;
        &self.octets[start..start + self.lengths[index].min(self.size)]
    }

    /// All room of a message; [`Messages::set_length`] says how much of it is meant.
    pub(crate) fn room(&mut self, index: usize) -> &mut [u8] {
        &mut self.octets[index * self.size..][..self.size]
    }

    pub(crate) fn set_length(&mut self, index: usize, length: usize) {
        self.lengths[index] = length.min(self.size);
    }

    /// Addresses a message to the peer of another one.
    pub(crate) fn address_like(&mut self, index: usize, other: &Messages, of: usize) {
        if let (Some(names), Some(others)) = (&mut self.names, &other.names) {
            names[index] = others[of];
        }
    }

    /// Receives what is there; gives the number of messages, or `WouldBlock`.
    pub(crate) fn receive(&mut self, socket: impl AsFd) -> io::Result<usize> {
        let count = self.capacity();
        self.lengths.fill(self.size);
        if let Some(names) = &mut self.names {
            names.iter_mut().for_each(|(_, length)| *length = size_of::<sockaddr_storage>() as u32);
        }
        self.prepare(count);
        let (descriptor, headers) = (socket.as_fd().as_raw_fd(), self.headers.as_mut_ptr());
        // SAFETY: `prepare` made `count` headers whose pointers lead to memory of self, each with its own length.
        let received = unsafe { libc::recvmmsg(descriptor, headers, count as u32, MSG_DONTWAIT, null_mut()) };
        let received = usize::try_from(received).map_err(|_| io::Error::last_os_error())?;
        for index in 0..received.min(count) {
            self.lengths[index] = self.headers[index].msg_len as usize;
            if let Some(names) = &mut self.names {
                names[index].1 = self.headers[index].msg_hdr.msg_namelen;
            }
        }
        Ok(received)
    }

    /// Sends the first `count` messages; gives how many the kernel took.
    pub(crate) fn send(&mut self, socket: impl AsFd, count: usize) -> io::Result<usize> {
        let count = count.min(self.capacity());
        self.prepare(count);
        let (descriptor, headers) = (socket.as_fd().as_raw_fd(), self.headers.as_mut_ptr());
        // SAFETY: as in `receive`; the kernel only reads what the pointers lead to.
        let sent = unsafe { libc::sendmmsg(descriptor, headers, count as u32, MSG_DONTWAIT | MSG_NOSIGNAL) };
        usize::try_from(sent).map_err(|_| io::Error::last_os_error())
    }

    fn prepare(&mut self, count: usize) {
        let octets = self.octets.as_mut_ptr();
        let vectors = self.vectors.as_mut_ptr();
        for index in 0..count {
            // SAFETY: there are `capacity` parts of `size` octets, and as many vectors.
            let (base, vector) = unsafe { (octets.add(index * self.size), vectors.add(index)) };
            // SAFETY: inside the vector's elements, as above; nothing else refers to them now.
            unsafe { *vector = iovec { iov_base: base.cast(), iov_len: self.lengths[index].min(self.size) } };
            let header: &mut msghdr = &mut self.headers[index].msg_hdr;
            header.msg_iov = vector;
            header.msg_iovlen = 1;
            if let Some(names) = &mut self.names {
                header.msg_name = (&raw mut names[index].0).cast();
                header.msg_namelen = names[index].1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use super::*;

    #[test]
    fn a_batch_comes_back_to_its_senders_as_it_was() {
        let server = UdpSocket::bind("127.0.0.1:0").unwrap();
        let clients = [(); 2].map(|()| UdpSocket::bind("127.0.0.1:0").unwrap());
        for (index, client) in clients.iter().enumerate() {
            client.connect(server.local_addr().unwrap()).unwrap();
            client.send(&[index as u8; 5][..index + 3]).unwrap();
        }
        let (mut queries, mut replies) = (Messages::addressed(8, 16), Messages::addressed(8, 16));
        assert_eq!(queries.receive(&server).unwrap(), 2);
        assert_eq!(queries.receive(&server).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        clients[0].send(b"a").unwrap();
        clients[1].send(b"bcd").unwrap();
        assert_eq!(queries.receive(&server).unwrap(), 2);
        for index in 0..2 {
            let bytes = queries.bytes(index).to_vec();
            replies.room(index)[..bytes.len()].copy_from_slice(&bytes);
            replies.set_length(index, bytes.len());
            replies.address_like(index, &queries, index);
        }
        assert_eq!(replies.send(&server, 2).unwrap(), 2);
        let mut room = [0; 16];
        assert_eq!(clients[0].recv(&mut room).unwrap(), 1);
        assert_eq!(clients[1].recv(&mut room).unwrap(), 3);
        assert_eq!(&room[..3], b"bcd");
    }
}
