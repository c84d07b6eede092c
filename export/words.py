"""The words of the report, in Vietnamese and English.

Kept true: every cause of a gap has its words; a test compares them with the causes there are.
"""

from __future__ import annotations

from typing import Final, NamedTuple


class Words(NamedTuple):
    """One saying."""

    vi: str
    en: str


CAUSES: Final = {
    "unknown": Words("không rõ nguyên nhân", "cause unknown"),
    "offline": Words("mất kết nối camera", "camera offline"),
    "no_media": Words("camera không gửi hình", "no media from the camera"),
    "packet_loss": Words("mất gói tin trên mạng", "packets lost on the network"),
    "overload": Words("máy ghi quá tải", "recorder overloaded"),
    "stopped": Words("ngừng ghi theo lệnh", "recording stopped in order"),
    "crash": Words("máy ghi gặp sự cố", "recorder or machine crashed"),
    "damage": Words("dữ liệu lưu trữ bị hỏng", "stored data damaged"),
    "clock": Words("đồng hồ bị chỉnh nhảy", "clock jumped"),
    "volume": Words("ổ đĩa bị lỗi", "disk failed"),
    "undecodable": Words("chưa có khung hình giải mã được", "no decodable picture yet"),
    "not_wanted": Words("ngoài lịch ghi", "outside the recording schedule"),
    "expired": Words("đã xóa theo thời hạn lưu trữ", "deleted by a retention rule"),
    "after_watermark": Words("chưa được ghi chắc chắn khi xuất", "not yet on stable storage when exported"),
}

PAGE: Final = {
    "title": Words("Biên bản trích xuất dữ liệu camera", "Report of exported camera footage"),
    "case": Words("Số hồ sơ", "Case"),
    "reason": Words("Lý do", "Reason"),
    "operator": Words("Người trích xuất", "Operator"),
    "created": Words("Thời điểm trích xuất", "Exported at"),
    "asked": Words("Khoảng thời gian yêu cầu", "Range asked for"),
    "export": Words("Mã trích xuất", "Export"),
    "node": Words("Máy ghi", "Recorder"),
    "software": Words("Phần mềm", "Software"),
    "key": Words("Khóa ký (SHA-256 của khóa công khai)", "Signing key (SHA-256 of the public key)"),
    "chart": Words("Dữ liệu có và khoảng trống", "Footage and gaps"),
    "footage": Words("có hình", "footage"),
    "camera": Words("Camera", "Camera"),
    "file": Words("Tệp video", "Video file"),
    "shown": Words("Hình được chiếu", "Pictures shown"),
    "delivered": Words("Dữ liệu giao", "Footage delivered"),
    "hidden": Words("Phần dư bị ẩn, trước và sau", "More than asked for, hidden, before and after"),
    "codec": Words("Mã hóa", "Codec"),
    "fragments": Words("Số đoạn / số khung hình", "Fragments / pictures"),
    "losses": Words("Gói tin mất / khung hình thiếu", "Packets lost / incomplete pictures"),
    "clock": Words("Đồng hồ máy ghi; sai số", "Recorder's clock; error bound"),
    "no_bound": Words("không rõ sai số", "no bound is known"),
    "camera_clock": Words("Đồng hồ camera so với giờ ghi", "Camera's clock less recorded time"),
    "ledger": Words("Sổ cái của máy ghi", "Recorder's ledger"),
    "no_ledger": Words("không có; chỉ có chữ ký lúc trích xuất", "none; only the export itself is signed"),
    "no_footage": Words("Không có hình trong khoảng thời gian này.", "No footage in this range."),
    "gaps": Words("Khoảng trống và nguyên nhân", "Gaps and their causes"),
    "no_gaps": Words("Không có khoảng trống.", "There are no gaps."),
    "pictures": Words(
        "Hình minh họa (bản sao; bản gốc ở tệp video)", "Pictures (copies; the video file is the original)"
    ),
    "check": Words("Cách kiểm chứng", "How to verify"),
    "check_how": Words(
        "Trên bất kỳ máy nào có Python 3.9 trở lên, không cần mạng: python3 verify.py. Kết quả cho biết từng "
        "giây là xác thực, bị sửa, bị thiếu hay không có hình, và nguyên nhân.",
        "On any machine with Python 3.9 or newer, without a network: python3 verify.py. It tells of each second "
        "whether it is authentic, altered, missing or not recorded, and why.",
    ),
    "check_key": Words(
        "So sánh khóa ký ở trên với khóa do đơn vị quản lý máy ghi công bố; chữ ký chỉ có giá trị khi hai khóa "
        "trùng nhau.",
        "Compare the signing key above with the one that the recorder's owner publishes; a signature is worth "
        "as much as the knowledge whose key it is.",
    ),
    "check_means": Words(
        "Video được chép nguyên từng byte như camera đã gửi, không mã hóa lại. Chữ ký chứng minh dữ liệu không "
        "thay đổi từ khi ghi; chữ ký không chứng minh nội dung trước ống kính.",
        "The video is byte for byte what the camera sent, not encoded again. The signatures prove that it has "
        "not changed since it was recorded; they do not prove what was in front of the lens.",
    ),
}
