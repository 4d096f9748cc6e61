//! Demo applications in one small program: the four services of bookinfo, httpbin, tcp-echo, a Pod
//! that waits, and clients that send requests. They are unaware of the mesh, like any application.

pub mod bookinfo;
pub mod cli;
pub mod client;
pub mod context;
pub mod httpbin;
pub mod load;
pub mod server;
pub mod tcp_echo;
