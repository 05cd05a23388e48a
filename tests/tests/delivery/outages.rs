//! A core that refuses everything for a while, with a server that is killed meanwhile. `make endurance` lets it last ten
//! minutes, with the settings that nobody changed.

use std::time::Duration;

use restante_tests::Outage;

#[tokio::test]
async fn a_core_that_refuses_everything_and_recovers_gets_every_unexpired_message_once() {
    let outage = Outage {
        lasts: Duration::from_secs(8),
        settings: "retry_seconds = [1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3]",
        longest_wait: Duration::from_secs(3),
        recipients: 2,
    };
    let figures = outage.happens().await;
    eprintln!("{figures}");
    assert_eq!((figures.lost, figures.too_many, figures.overtaken), (0, 0, 0), "{figures}");
    assert_eq!(figures.accepted, figures.delivered + figures.expired, "{figures}");
    assert_eq!((figures.expired, figures.reported), (16, 8), "{figures}");
}
