"""A Bluetooth controller without hardware (Google's bumble, on /dev/vhci), and a beacon in the same air.

The beacon is an iBeacon whose minor number counts up, and whose signal gets weaker, once a second.
"""

import asyncio
import uuid

from bumble import hci
from bumble.controller import Controller
from bumble.device import Device
from bumble.host import Host
from bumble.link import LocalLink
from bumble.transport import open_transport
from bumble.transport.common import AsyncPipeSink

UUID = uuid.UUID("f7826da6-4fa2-4e98-8024-bc5b71e0893e")
REPORTS = (hci.HCI_LE_Advertising_Report_Event, hci.HCI_LE_Extended_Advertising_Report_Event)


class Receiver(Controller):
    """The controller of this machine, which hears the beacon with a signal of `rssi`."""

    rssi = -50

    def send_hci_packet(self, packet):
        if isinstance(packet, REPORTS):
            for report in packet.reports:
                report.rssi = self.rssi
        super().send_hci_packet(packet)


def advertisement(minor):
    flags = bytes([2, 0x01, 0x06])
    beacon = bytes([0x4C, 0x00, 0x02, 0x15]) + UUID.bytes + (1).to_bytes(2, "big") + minor.to_bytes(2, "big") + b"\xc5"
    return flags + bytes([len(beacon) + 1, 0xFF]) + beacon


async def main():
    link = LocalLink()
    kernel = await open_transport("vhci")
    receiver = Receiver(
        "receiver", host_source=kernel.source, host_sink=kernel.sink, link=link, public_address="00:11:22:33:44:55"
    )
    sender = Controller("sender", link=link)
    beacon = Device("beacon", address=hci.Address("F0:F1:F2:F3:F4:F5"), host=Host(sender, AsyncPipeSink(sender)))
    await beacon.power_on()
    for minor in range(100, 1000):
        receiver.rssi = -50 - minor % 40
        await beacon.start_advertising(
            own_address_type=hci.OwnAddressType.RANDOM,
            advertising_data=advertisement(minor),
            advertising_interval_min=100,
            advertising_interval_max=100,
        )
        await asyncio.sleep(1.0)
        await beacon.stop_advertising()


asyncio.run(main())
