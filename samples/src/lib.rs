//! Demo applications in one small program: the four services of bookinfo, httpbin, tcp-echo, a Pod that
//! waits, and the clients that drive them. They know nothing of the mesh, as any application would.

pub mod bookinfo;
pub mod cli;
pub mod client;
pub mod context;
pub mod httpbin;
pub mod load;
pub mod server;
pub mod tcp_echo;
