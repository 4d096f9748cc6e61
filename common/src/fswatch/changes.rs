//! Changes as their follower receives them.

use tokio::sync::mpsc;

/// Changes of files, from the task that watches them. The task ends when this is dropped.
#[derive(Debug)]
pub struct Changes<T = ()>(mpsc::Receiver<T>);

/// The task that watches files has died, so that later changes would go unnoticed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("files are no longer watched for changes: the task that watches them has died")]
pub struct WatchDied;

impl<T> Changes<T> {
    /// The next change. Nothing is lost if the future is dropped before it completes.
    ///
    /// # Errors
    /// When the files are no longer watched.
    pub async fn next(&mut self) -> Result<T, WatchDied> {
        self.0.recv().await.ok_or(WatchDied)
    }
}

impl<T> From<mpsc::Receiver<T>> for Changes<T> {
    fn from(changes: mpsc::Receiver<T>) -> Self {
        Self(changes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_death_of_the_watching_task_is_an_error() {
        let (sender, receiver) = mpsc::channel(1);
        let task = tokio::spawn(async move {
            sender.send(()).await.unwrap();
            panic!("watching failed");
        });
        assert!(task.await.unwrap_err().is_panic());
        let mut changes = Changes::from(receiver);
        assert_eq!(changes.next().await, Ok(()));
        assert_eq!(changes.next().await, Err(WatchDied));
    }
}
